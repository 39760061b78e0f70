"""Finds the first answers to a duplicate in the outbox of the commit that decided them, and encodes them for its own offset.

The messages themselves are read, as subscribers got them. So answers are stored once, and a duplicate gets the same answers even
if another release made them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from stream_app.codec.answers import answer_id
from stream_app.codec.outbox import OutboxBatch
from stream_app.events import ANSWER_TOPICS, Event, Source


class _Head(msgspec.Struct):
    event_id: str
    event_time_ms: int
    source: Source
    duplicate_of: str = ""


_head: Final = msgspec.json.Decoder(_Head)
_whole: Final = msgspec.json.Decoder(dict[str, Any])
_encode: Final = msgspec.json.Encoder().encode


def find_first_answers(outbox: OutboxBatch, key: bytes | None, topic: str, event: Event) -> dict[str, dict[str, Any]]:
    """Find the answers of the commit that first applied an event: the messages by answer topic.

    Args:
        outbox: The messages of the commit.
        key: Key of the event's record.
        topic: Source topic of the event, without prefix.
        event: The event; its id and its time identify its answers.

    Returns:
        A label and candidates, perhaps an alert; empty if this commit did not answer the event, or only as a duplicate.
    """
    answers: dict[str, dict[str, Any]] = {}
    first_delivery = (event.event_id, event.event_time_ms, topic, "")
    for name in ANSWER_TOPICS:
        for value in _messages_of_key(outbox, name, key):
            head = _head.decode(value)
            if (head.event_id, head.event_time_ms, head.source.topic, head.duplicate_of) == first_delivery:
                answers[name] = _whole.decode(value)
                break
    return answers


def encode_duplicate_answers(answers: Mapping[str, Mapping[str, Any]], source: Source, ingest_time_ms: int) -> dict[str, bytes]:
    """Encode the first answers for another record of the same event, by answer topic: only the record's coordinates change.

    The bytes equal those of a duplicate in the same batch, including the order of fields: answers do not depend on where
    batches end.
    """
    own = {
        "answer_id": answer_id(source.topic, source.partition, source.offset),
        "source": source,
        "ingest_time_ms": ingest_time_ms,
    }
    return {name: _encode(_with_first({**answer, **own}, answer["answer_id"])) for name, answer in answers.items()}


def _with_first(answer: dict[str, Any], first_id: str) -> dict[str, Any]:
    """Insert `duplicate_of` at its place in `stream_app.events.Answer`."""
    fields: dict[str, Any] = {}
    for field, value in answer.items():
        fields[field] = value
        if field == "features_version":
            fields["duplicate_of"] = first_id
    return fields


def commit_name(group: int, commit: int) -> str:
    """Return the value of `duplicate_of` for an event whose first answers the store no longer keeps."""
    return f"commit-{group}-{commit}"


def _messages_of_key(outbox: OutboxBatch, topic: str, key: bytes | None) -> Iterator[bytes]:
    messages = outbox.topics.get(topic)
    if messages is not None:
        yield from (value for other, value in zip(messages.keys, messages.values, strict=True) if other == key)
