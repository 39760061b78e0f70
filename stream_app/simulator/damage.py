"""Damage of a record between a phone and a topic. Every kind gives bytes that are not a valid event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


def _cut(value: bytes) -> bytes:
    return value[: max(1, len(value) // 2)]


def _without_user(value: bytes) -> bytes:
    return value.replace(b'"user":', b'"usr":')


def _time_as_text(value: bytes) -> bytes:
    return value.replace(b'"event_time_ms":', b'"event_time_ms":"soon","was":')


def _negative_time(value: bytes) -> bytes:
    return value.replace(b'"event_time_ms":', b'"event_time_ms":-')


def _spaces_in_id(value: bytes) -> bytes:
    return value.replace(b'"event_id":"', b'"event_id":"not an id ')


def _not_a_number(value: bytes) -> bytes:
    return value.replace(b'"event_time_ms":', b'"event_time_ms":NaN,"was":')


def _not_text(value: bytes) -> bytes:
    return b"\xff\xfe\x00" + value


def _nothing(value: bytes) -> bytes:
    return value[:0]


def _a_list(value: bytes) -> bytes:
    return b"[" + value + b"]"


_WAYS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    _cut,
    _without_user,
    _time_as_text,
    _negative_time,
    _spaces_in_id,
    _not_a_number,
    _not_text,
    _nothing,
    _a_list,
)


def damaged(value: bytes, way: int) -> bytes:
    """Return the bytes of an event, broken in the given way (any number >= 0; ways repeat)."""
    return _WAYS[way % len(_WAYS)](value)
