"""The answers to an event that came before, found in the outbox of the commit that decided them, and said for another offset.

What is found is what subscribers got: the messages themselves are read, so nothing about an answer is kept a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from stream_app.codec.answers import answer_id
from stream_app.codec.outbox import OutboxBatch
from stream_app.events import Answer, FraudAlert, IntentLabel, RecommendationCandidates, Source

__all__ = ["answers_again", "commit_name", "first_answers"]

# In the order in which fresh answers go to the outbox.
_TYPES: Final[dict[str, type[Answer]]] = {
    "intent-labels": IntentLabel,
    "recommendation-candidates": RecommendationCandidates,
    "fraud-alerts": FraudAlert,
}
_decoders: Final[dict[str, msgspec.json.Decoder[Any]]] = {name: msgspec.json.Decoder(kind) for name, kind in _TYPES.items()}
_encode: Final = msgspec.json.Encoder().encode


def first_answers(outbox: OutboxBatch, key: bytes | None, topic: str, event_id: str) -> dict[str, Answer]:
    """Find what one commit answered to an event that was new then, by answer topic.

    Args:
        outbox: What the commit published.
        key: Key of the event's record.
        topic: Source topic of the event, without prefix.
        event_id: The event's own id.

    Returns:
        A label and candidates, perhaps an alert; nothing if this commit did not answer the event, or only as a duplicate.
    """
    found: dict[str, Answer] = {}
    for name in _TYPES:
        for value in _said_to(outbox, name, key):
            answer: Answer = _decoders[name].decode(value)
            if answer.event_id == event_id and answer.source.topic == topic and not answer.duplicate_of:
                found[name] = answer
                break
    return found


def answers_again(found: Mapping[str, Answer], source: Source, ingest_time_ms: int) -> dict[str, bytes]:
    """Encode the answers `found` for another record of the same event, by answer topic: where it stands is all that changes."""
    identifier = answer_id(source.topic, source.partition, source.offset)
    return {
        name: _encode(
            msgspec.structs.replace(
                answer, answer_id=identifier, source=source, ingest_time_ms=ingest_time_ms, duplicate_of=answer.answer_id
            )
        )
        for name, answer in found.items()
    }


def commit_name(group: int, commit: int) -> str:
    """Name the commit that applied an event whose answers are no longer kept, for `duplicate_of`."""
    return f"commit-{group}-{commit}"


def _said_to(outbox: OutboxBatch, topic: str, key: bytes | None) -> Iterator[bytes]:
    messages = outbox.topics.get(topic)
    if messages is not None:
        yield from (value for other, value in zip(messages.keys, messages.values, strict=True) if other == key)
