from __future__ import annotations

import socket

import pytest

from devservices import ports
from devservices.ports import free_port, is_free
from stream_app.errors import ServiceError


def test_a_port_that_someone_listens_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])


def test_the_same_seed_gives_the_same_port_while_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda _port: True)
    assert free_port("/a") == free_port("/a") != free_port("/b")


def test_a_taken_port_and_a_reserved_one_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda _port: True)
    first = free_port("seed")
    second = free_port("seed", frozenset({first}))
    assert second != first
    monkeypatch.setattr(ports, "is_free", lambda port: port != first)
    assert free_port("seed") == second


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    assert all(1024 < free_port(f"seed {n}") < 32_768 for n in range(20))


def test_no_free_port_is_an_error_that_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda _port: False)
    with pytest.raises(ServiceError, match="ss -ltn"):
        free_port("seed")
