"""The answers to an event that came before, found in the outbox of the commit that decided them, and said for another offset.

What is found is what subscribers got: the messages themselves are read. So nothing about an answer is kept a second time, and
what another release has answered is said again as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from stream_app.codec.answers import answer_id
from stream_app.codec.outbox import OutboxBatch
from stream_app.events import ANSWER_TOPICS, Event, Source

__all__ = ["commit_name", "encode_duplicate_answers", "find_first_answers"]


class _Head(msgspec.Struct):
    event_id: str
    event_time_ms: int
    source: Source
    duplicate_of: str = ""


_head: Final = msgspec.json.Decoder(_Head)
_whole: Final = msgspec.json.Decoder(dict[str, Any])
_encode: Final = msgspec.json.Encoder().encode


def find_first_answers(outbox: OutboxBatch, key: bytes | None, topic: str, event: Event) -> dict[str, dict[str, Any]]:
    """Find what one commit answered to an event that was new then: the messages by answer topic.

    Args:
        outbox: What the commit published.
        key: Key of the event's record.
        topic: Source topic of the event, without prefix.
        event: The event; its id and its time say which answers are its own.

    Returns:
        A label and candidates, perhaps an alert; nothing if this commit did not answer the event, or only as a duplicate.
    """
    found: dict[str, dict[str, Any]] = {}
    wanted = (event.event_id, event.event_time_ms, topic, "")
    for name in ANSWER_TOPICS:
        for value in _messages_of_key(outbox, name, key):
            head = _head.decode(value)
            if (head.event_id, head.event_time_ms, head.source.topic, head.duplicate_of) == wanted:
                found[name] = _whole.decode(value)
                break
    return found


def encode_duplicate_answers(found: Mapping[str, Mapping[str, Any]], source: Source, ingest_time_ms: int) -> dict[str, bytes]:
    """Encode the answers `found` for another record of the same event, by answer topic: where it stands is all that changes.

    The bytes are those that are made where both are in one batch, the order of fields included: nothing tells where batches end.
    """
    own = {
        "answer_id": answer_id(source.topic, source.partition, source.offset),
        "source": source,
        "ingest_time_ms": ingest_time_ms,
    }
    return {name: _encode(_with_first({**answer, **own}, answer["answer_id"])) for name, answer in found.items()}


def _with_first(answer: dict[str, Any], first_id: str) -> dict[str, Any]:
    """Put `duplicate_of` where `stream_app.events.Answer` has it."""
    said: dict[str, Any] = {}
    for field, value in answer.items():
        said[field] = value
        if field == "features_version":
            said["duplicate_of"] = first_id
    return said


def commit_name(group: int, commit: int) -> str:
    """Name the commit that applied an event whose answers are no longer kept, for `duplicate_of`."""
    return f"commit-{group}-{commit}"


def _messages_of_key(outbox: OutboxBatch, topic: str, key: bytes | None) -> Iterator[bytes]:
    messages = outbox.topics.get(topic)
    if messages is not None:
        yield from (value for other, value in zip(messages.keys, messages.values, strict=True) if other == key)
