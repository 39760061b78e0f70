"""Check whether a server answers: one request over a new connection, without client library or thread, bounded in time."""

from __future__ import annotations

import socket
import struct

_METADATA, _VERSION = 3, 1  # the oldest version with a null topic list; every broker since 0.10 speaks it
_CLIENT = b"millrace-probe"
_CORRELATION = 7
_HEAD = struct.Struct(">iii")  # of a metadata answer: size, correlation id, count of live brokers
_PONG = b"+PONG\r\n"


def kafka_answers(port: int, timeout_s: float = 2.0) -> bool:
    """Return whether the broker at 127.0.0.1:`port` answers a metadata request and lists at least one live broker.

    A KRaft broker lists itself only when the controller has let it in: from then on topics can be created.
    """
    body = struct.pack(">i", 0)  # no topics: brokers only
    header = struct.pack(">hhih", _METADATA, _VERSION, _CORRELATION, len(_CLIENT)) + _CLIENT
    request = header + body
    try:
        answer = _ask(port, struct.pack(">i", len(request)) + request, timeout_s, _HEAD.size)
    except OSError:
        return False
    if len(answer) < _HEAD.size:
        return False
    _size, correlation, brokers = _HEAD.unpack_from(answer)
    return bool(correlation == _CORRELATION and brokers >= 1)


def redis_answers(port: int, timeout_s: float = 2.0) -> bool:
    """Return whether the Redis at 127.0.0.1:`port` answers PING; one that still loads its data does not."""
    try:
        return _ask(port, b"PING\r\n", timeout_s, len(_PONG)) == _PONG
    except OSError:
        return False


def _ask(port: int, request: bytes, timeout_s: float, enough: int) -> bytes:
    """Send `request`, return the first `enough` bytes of the answer or more; fewer if the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as conversation:
        conversation.sendall(request)
        answer = b""
        while len(answer) < enough:
            piece = conversation.recv(4096)
            if not piece:
                break
            answer += piece
        return answer
