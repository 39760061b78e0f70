"""Damage of a record between a phone and a topic. Every kind gives bytes that are not a valid event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_TIME: Final = b'"event_time_ms":'

_KINDS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda value: value[: max(1, len(value) // 2)],
    lambda value: value.replace(b'"user":', b'"usr":'),
    lambda value: value.replace(_TIME, _TIME + b'"soon","was":'),
    lambda value: value.replace(_TIME, _TIME + b"-"),
    lambda value: value.replace(b'"event_id":"', b'"event_id":"not an id '),
    lambda value: value.replace(_TIME, _TIME + b'NaN,"was":'),
    lambda value: b"\xff\xfe\x00" + value,  # no text
    lambda value: value[:0],
    lambda value: b"[" + value + b"]",
)


def damaged(value: bytes, kind: int) -> bytes:
    """Return the damaged bytes of an event; `kind` is any number >= 0, kinds repeat."""
    return _KINDS[kind % len(_KINDS)](value)
