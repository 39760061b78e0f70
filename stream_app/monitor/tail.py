"""Records of a topic as they arrive, one line each; read without a consumer group, so no worker's position moves.

A line consists of decoded values or re-encoded JSON, never of raw bytes: a record cannot send control characters to the terminal.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich.text import Text

from stream_app.admin.topic_reader import TopicReader

_SHOWN: Final = 120  # characters of an undecoded value


@dataclass(frozen=True, slots=True)
class TailedRecord:
    """A record; `topic` has no prefix, `timestamp_ms` is the broker's."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


def records(
    bootstrap: str, topic: str, *, prefix: str = "", beginning: bool, follow: bool = True
) -> Generator[TailedRecord, None, None]:
    """Yield the records of `topic`, in order within a partition; for ever, or up to the present end of the topic.

    Reads committed records only, as the worker does. Blocks between records.

    Raises:
        ConfigError: There is no such topic.
        BrokerUnavailableError: The broker does not answer.
        UnreadableBatchError: A batch cannot be read.
    """
    with TopicReader(bootstrap, prefix) as reader:
        ranges = reader.ranges([topic])
        if not beginning:
            ranges = {place: (end, end) for place, (_, end) in ranges.items()}
        for _, message in reader.read(ranges, follow=follow):
            place, timestamp_ms = (message.partition() or 0, message.offset() or 0), message.timestamp()[1]
            yield TailedRecord(topic, *place, timestamp_ms, message.key(), message.value())


def json_line(record: TailedRecord) -> str:
    """Return the JSON value on one line; other bytes become an object with their base64."""
    value = record.value or b""
    try:
        decoded = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return json.dumps({"not_json": base64.b64encode(value).decode("ascii")})
    # ASCII output: control characters such as U+009B would reach the terminal.
    return json.dumps(decoded, separators=(",", ":"))


def pretty_line(record: TailedRecord) -> Text:
    """Return the record in one line for a person: time, user and content."""
    line = Text()
    at = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    line.append(f"{at:%H:%M:%S}.{record.timestamp_ms % 1000:03d} ", style="dim")
    start = len(line)
    try:
        value = msgspec.json.decode(record.value or b"")
        _FORMATS.get(record.topic, _append_json)(line, value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        line.append(_shortened(repr(record.value)), style="red")
    except (KeyError, TypeError, ValueError):  # JSON of another type: the JSON itself
        line.right_crop(len(line) - start)
        _append_json(line, value)
    return line


def _append_alert(line: Text, value: dict[str, Any]) -> None:
    line.append(f"{value['user']:<14} ", style="bold")
    line.append(f"ALERT {value['probability']:.2f} (threshold {value['threshold']:.2f})", style="bold red")
    if value["amount"]:
        line.append(f"  {value['amount']:.2f} {value['currency']}", style="yellow")
    for rule in value["rules"]:
        line.append(f"  rule {rule}", style="magenta")
    for reason in value["reasons"]:
        line.append(f"  {reason['feature']} {reason['value']:g} (usual {reason['usual']:g})", style="cyan")
    line.append(f"  {value['answer_id']}", style="dim")


def _append_dead_letter(line: Text, value: dict[str, Any]) -> None:
    source = value["source"]
    line.append(f"{source['topic']}-{source['partition']}-{source['offset']} ", style="bold")
    line.append(value["reason"], style="red")
    original = base64.b64decode(value["value"] or "")
    line.append(f"  {len(original)} bytes: {_shortened(repr(original[: 2 * _SHOWN]))}", style="dim")


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... (--json shows all)"


def _append_intent(line: Text, value: dict[str, Any]) -> None:
    line.append(f"{value['user']:<14} ", style="bold")
    line.append(f"{value['intent']:<6} {value['probabilities'][value['intent']]:.2f}", style="green")
    line.append(f"  next {value['next_action']:<9} click {value['click_probability']:.2f}")
    line.append(f"  fraud {value['fraud_probability']:.2f}", style="bold red" if value["fraud_alert"] else "dim")


def _append_candidates(line: Text, value: dict[str, Any]) -> None:
    line.append(f"{value['user']:<14} ", style="bold")
    for item in value["items"][:5]:
        line.append(f" {item['item']}", style="cyan")
        line.append(f" {item['score']:.2f}", style="dim")
    if len(value["items"]) > 5:
        line.append(f"  and {len(value['items']) - 5} more", style="dim")


def _append_json(line: Text, value: object) -> None:
    line.append(json.dumps(value))


_FORMATS: Final[dict[str, Callable[[Text, Any], None]]] = {
    "fraud-alerts": _append_alert,
    "dead-letters": _append_dead_letter,
    "intent-labels": _append_intent,
    "recommendation-candidates": _append_candidates,
}
