from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from devservices.probe import kafka_answers, redis_answers


@contextmanager
def server_that_says(answer: bytes) -> Iterator[int]:
    """A server that takes one connection, reads something, says `answer` and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            conversation, _ = server.accept()
            with conversation:
                conversation.recv(4096)
                conversation.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def metadata(correlation: int, brokers: int) -> bytes:
    return struct.pack(">iii", 30, correlation, brokers) + b"\0" * 22


def test_a_broker_that_lists_itself_answers() -> None:
    with server_that_says(metadata(7, 1)) as port:
        assert kafka_answers(port)


@pytest.mark.parametrize("answer", [metadata(7, 0), metadata(8, 1), b"", b"+PONG\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_broker_without_itself_or_another_program_does_not(answer: bytes) -> None:
    with server_that_says(answer) as port:
        assert not kafka_answers(port)


def test_redis_answers_when_it_says_pong() -> None:
    with server_that_says(b"+PONG\r\n") as port:
        assert redis_answers(port)


@pytest.mark.parametrize("answer", [b"-LOADING Redis is loading the dataset in memory\r\n", b"-NOAUTH\r\n", b"+P", b""])
def test_a_redis_that_loads_or_refuses_does_not(answer: bytes) -> None:
    with server_that_says(answer) as port:
        assert not redis_answers(port)


def test_nobody_there_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not kafka_answers(port)
    assert not redis_answers(port)


def test_a_server_that_says_nothing_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # the kernel accepts, nobody answers
        assert not redis_answers(server.getsockname()[1], timeout_s=0.05)
        assert not kafka_answers(server.getsockname()[1], timeout_s=0.05)
