"""Decodes the bytes of a source record to a typed event, or raises the reason why they are not one.

`decode` raises InvalidEventError with a sentence for a person; the pipeline then sends the original record to `dead-letters`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from stream_app.errors import InvalidEventError
from stream_app.events import Click, Event, Label, Order, Search

ANY_SKEW_MS: Final = 1 << 60  # for logs without broker timestamps, and where clocks are checked later

# Kafka's default limit of a record batch; a compressed batch may hold far larger records.
_MOST_BYTES: Final = 1_048_576
_MOST_REASON: Final = 300  # characters
_PATTERN: Final = re.compile(r"Expected `str` matching regex '(.*)'(?= - at|$)")
_WRONG_TYPE: Final = re.compile(r"^Expected `[^`]*`, got `")
_ID_WORDS: Final = "an identifier (ASCII letters, digits and ._:@/+=~|- only)"

_TOO_DEEP: Final = "the JSON is nested too deeply"

# First bytes of values that a serialiser wrote, and what the producer must change.
_WRAPPED: Final = {
    b"\0": "it begins as a schema registry's serialisers frame values; write plain JSON",
    b"\x1f\x8b": "it is gzip; let the producer compress batches (compression.type), not values",
    b"\xff\xfe": "it is UTF-16; write UTF-8",
    b"\xfe\xff": "it is UTF-16; write UTF-8",
    b"\xef\xbb\xbf": "it begins with a byte order mark; write UTF-8 without one",
}

EVENT_TYPES: Final[dict[str, type[Event]]] = {"searches": Search, "clicks": Click, "orders": Order}

_label: Final = msgspec.json.Decoder(Label).decode


def decode_label(value: bytes | None) -> Label:
    """Decode the value of a record of the topic `labels`.

    Raises:
        InvalidEventError: The bytes are not a label; the message says why.
    """
    try:
        return _label(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise InvalidEventError(_shortened(str(err))) from err
    except RecursionError as err:
        raise InvalidEventError(_TOO_DEEP) from err


class Decoder:
    """Decodes and checks source records.

    Args:
        future_skew_ms: How far an event time may lie after the record's own Kafka timestamp. An event from the far future would
            expire all tiles of its user, and every honest event after it would be late.
    """

    def __init__(self, *, future_skew_ms: int) -> None:
        self._future_skew_ms = future_skew_ms
        self._decoders: dict[str, Callable[[bytes], Event]] = {
            topic: msgspec.json.Decoder(kind).decode for topic, kind in EVENT_TYPES.items()
        }

    def decode(self, topic: str, key: bytes | None, value: bytes | None, timestamp_ms: int) -> Event:
        """Decode one record of a source topic (its name without prefix).

        Raises:
            InvalidEventError: The bytes are not an event of this topic; the message says why.
        """
        if not value:
            raise InvalidEventError(f"the record has no value; {topic} carries one JSON object a record", "no_value")
        if len(value) > _MOST_BYTES:
            raise InvalidEventError(f"the record has {len(value)} bytes; an event has at most {_MOST_BYTES}", "too_large")
        try:
            event = self._decoders[topic](value)
        except msgspec.ValidationError as err:
            reason = _shortened(_readable(str(err)))
            what = EVENT_TYPES[topic].__name__.lower()
            raise InvalidEventError(f"not a valid {what} for {topic}: {reason}", _kind(str(err))) from err
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            hint = "".join(f" ({hint})" for first, hint in _WRAPPED.items() if value.startswith(first))
            raise InvalidEventError(f"not JSON: {err}{hint}", "not_json") from err
        except RecursionError as err:
            raise InvalidEventError(_TOO_DEEP, "not_json") from err
        if not value.isascii():
            _require_utf8(value)  # the decoder does not check fields that it skips; late-events may need the original
        if key != event.user.encode():
            actual = "none" if key is None else repr(key[:64])
            raise InvalidEventError(f"the record's key must be the user id: key {actual}, user {event.user!r}", "key")
        if timestamp_ms >= 0 and event.event_time_ms > timestamp_ms + self._future_skew_ms:
            ahead_ms = event.event_time_ms - timestamp_ms
            raise InvalidEventError(
                f"event_time_ms {event.event_time_ms} is {ahead_ms} ms after the record's Kafka timestamp {timestamp_ms}; "
                f"at most {self._future_skew_ms} is allowed: check the producer's clock and unit (milliseconds)",
                "future",
            )
        return event


def _kind(reason: str) -> str:
    """Return the kind of msgspec's message about an object that is JSON and no event."""
    if "missing required field" in reason:
        return "missing_field"
    return "wrong_type" if _WRONG_TYPE.search(reason) else "out_of_bounds"


def _readable(reason: str) -> str:
    """Replace a regex of stream_app.events by its meaning in words."""
    pattern = _PATTERN.search(reason)
    if pattern is None:
        return reason
    words = _ID_WORDS if "A-Za-z0-9._:" in pattern[0] else f"text of the form {pattern[1]}"
    return reason.replace(pattern[0], f"Expected {words}")


def _shortened(reason: str) -> str:
    """Shorten a reason that quotes a huge value; the dead letter holds the original bytes."""
    return reason if len(reason) <= _MOST_REASON else f"{reason[:_MOST_REASON]}... ({len(reason)} characters)"


def _require_utf8(value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError as err:
        raise InvalidEventError(f"not UTF-8: {err}", "not_json") from err
