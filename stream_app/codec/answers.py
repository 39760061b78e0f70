"""Builds the JSON of every answer, live and in replay, from scored rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from stream_app.events import (
    INTENTS,
    NEXT_ACTIONS,
    AlertEntities,
    Candidate,
    DeadLetter,
    Event,
    FraudAlert,
    IntentLabel,
    LateEvent,
    Order,
    Reason,
    RecommendationCandidates,
    Source,
)
from stream_app.ranked import RankedBatch

# A dead letter and its key stay below their topic's limit of 4 MB. Only a compressed batch can hold a larger record.
_MOST_BYTES: Final = 4_000_000
_CUT_BYTES: Final = 65_536


class SourceRecord(Protocol):
    """A record of a consumer, such as aiokafka's ConsumerRecord. `topic` may have a prefix."""

    @property
    def topic(self) -> str: ...  # noqa: D102
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...  # noqa: D102


def answer_id(topic: str, partition: int, offset: int) -> str:
    """Return the id of the answers to the event at these coordinates; it depends on nothing else."""
    return f"{topic}-{partition}-{offset}"


class Origin(NamedTuple):
    """The answered record's coordinates and Kafka timestamp, the time of scoring, and the first answers of a duplicate."""

    source: Source
    ingest_time_ms: int
    scored_time_ms: int
    duplicate_of: str = ""


class AnswerEncoder:
    """Builds and encodes answers, each with the version of the model that scored its row.

    Args:
        features_version: Hash of the catalogue.
        entities_of: Returns what a fraud alert tells of its event's device, card, ...; None: nothing.
    """

    def __init__(self, *, features_version: str, entities_of: Callable[[Event], AlertEntities | None]) -> None:
        self.features_version = features_version
        self._entities_of = entities_of
        self._encode = msgspec.json.Encoder().encode

    def answers(self, event: Event, origin: Origin, row: int, ranked: RankedBatch, *, alert: bool) -> tuple[bytes, bytes]:
        """Encode the two answers of every event: intent label and recommendation candidates.

        Args:
            event: The event.
            origin: The record that the answers belong to.
            row: The event's row in `ranked`.
            ranked: All rows of the batch.
            alert: Whether the event gets a fraud alert too.
        """
        source, ingest_time_ms, scored_time_ms, duplicate_of = origin
        identifier = answer_id(source.topic, source.partition, source.offset)
        scored, model_version, degraded = ranked.scored, ranked.versions[row], ranked.degraded
        intent = scored.intent[row]
        label = IntentLabel(
            answer_id=identifier,
            event_id=event.event_id,
            user=event.user,
            source=source,
            event_time_ms=event.event_time_ms,
            ingest_time_ms=ingest_time_ms,
            scored_time_ms=scored_time_ms,
            model_version=model_version,
            features_version=self.features_version,
            duplicate_of=duplicate_of,
            degraded=degraded,
            intent=INTENTS[intent.index(max(intent))],
            probabilities=dict(zip(INTENTS, intent, strict=True)),
            next_action=NEXT_ACTIONS[scored.next_action[row]],
            click_probability=scored.click[row],
            fraud_probability=scored.fraud[row],
            fraud_alert=alert,
        )
        candidates = RecommendationCandidates(
            answer_id=identifier,
            event_id=event.event_id,
            user=event.user,
            source=source,
            event_time_ms=event.event_time_ms,
            ingest_time_ms=ingest_time_ms,
            scored_time_ms=scored_time_ms,
            model_version=model_version,
            features_version=self.features_version,
            duplicate_of=duplicate_of,
            degraded=degraded,
            items=[
                Candidate(item, score, "model") for item, score in zip(scored.items[row], scored.item_scores[row], strict=True)
            ],
        )
        return self._encode(label), self._encode(candidates)

    def alert(self, event: Event, origin: Origin, row: int, ranked: RankedBatch, why: tuple[list[str], list[Reason]]) -> bytes:
        """Encode a fraud alert; like `answers`, and `why` holds the rules that fired and the unusual features."""
        source, ingest_time_ms, scored_time_ms, duplicate_of = origin
        norms = ranked.norms(row)
        return self._encode(
            FraudAlert(
                answer_id=answer_id(source.topic, source.partition, source.offset),
                event_id=event.event_id,
                user=event.user,
                source=source,
                event_time_ms=event.event_time_ms,
                ingest_time_ms=ingest_time_ms,
                scored_time_ms=scored_time_ms,
                model_version=norms.version,
                features_version=self.features_version,
                duplicate_of=duplicate_of,
                degraded=ranked.degraded,
                probability=ranked.scored.fraud[row],
                threshold=min(norms.threshold, 1.0),
                rules=why[0],
                reasons=why[1],
                amount=event.amount if isinstance(event, Order) else 0.0,
                currency=event.currency if isinstance(event, Order) else "",
                entities=self._entities_of(event),
            )
        )

    def dead_letter(self, record: SourceRecord, topic: str, reason: str, place: str) -> tuple[bytes | None, bytes]:
        """Encode an invalid record with its original bytes and headers; of a giant record only the beginning.

        Returns:
            The letter's key, which is the record's, and the letter.
        """
        letter = DeadLetter(
            answer_id=answer_id(topic, record.partition, record.offset),
            reason=reason,
            place=place,
            source=Source(topic, record.partition, record.offset),
            ingest_time_ms=record.timestamp,
            key=record.key,
            value=record.value,
            headers=list(record.headers),
        )
        encoded = self._encode(letter)
        if len(encoded) + len(record.key or b"") <= _MOST_BYTES:
            return record.key, encoded
        note = f"; the record is a giant: only the first {_CUT_BYTES} bytes of its key and value are kept, and no header"
        key, value = record.key and record.key[:_CUT_BYTES], record.value and record.value[:_CUT_BYTES]
        return key, self._encode(msgspec.structs.replace(letter, reason=reason + note, key=key, value=value, headers=[]))

    def late_event(self, source: Source, value: bytes, late_by_ms: int, allowed_ms: int) -> bytes:
        """Encode a valid event that came later than the allowed lateness."""
        return self._encode(
            LateEvent(
                answer_id=answer_id(source.topic, source.partition, source.offset),
                source=source,
                late_by_ms=late_by_ms,
                allowed_lateness_ms=allowed_ms,
                event=msgspec.Raw(value),
            )
        )
