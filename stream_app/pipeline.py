"""The way of one event, on one page. Live and replay call these functions; only clock, source, store and sink differ.

    records -> prepare: decode, columns, rows            no state, no waiting: may run while an earlier batch is scored
            -> score:   read, fold, model, decide        after the batch before has committed its state
            -> steps:   what to commit, group by group   (the caller commits, publishes and acknowledges, in this order)

A batch is whatever waits, over all partition groups of the worker. Its events are folded in the order (event time, topic,
partition, offset), and each sees its own past only: its user's events before it, and of a shared entity the own group's events
before it and the other groups' replicas as the batch's read found them.

Every offset in gets exactly one fate: two or three answers, a late event, or a dead letter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stream_app.clock import Clock
from stream_app.codec.answers import AnswerEncoder, ScoredRows, SourceRecord
from stream_app.codec.decode import Decoder
from stream_app.codec.identity import Identity
from stream_app.codec.outbox import OutboxBatch, encode_outbox
from stream_app.decision.decide import Decider, Decisions
from stream_app.errors import InvalidEventError, StoreSteppedBackError
from stream_app.events import Event, JournalLine, Source
from stream_app.features.columns import EntityRows, EventColumns
from stream_app.features.engine import FeatureEngine, FoldResult
from stream_app.metrics import Metrics
from stream_app.store.port import GroupStep, Snapshot, StateWrite, Store

__all__ = ["Pipeline", "Prepared", "Ranker", "Span"]


class Ranker(Protocol):
    """The model and its item index: called in the model's own thread."""

    def rank(self, inputs: Mapping[str, npt.NDArray[Any]]) -> tuple[ScoredRows, npt.NDArray[np.float32]]:
        """Score B events by model.contract.INPUTS; returns their answers, and the fraud probabilities (B,) unrounded."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets [start, end) of one topic that a batch applies to a group, under the epoch it was claimed with."""

    group: int
    epoch: str
    topic: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A decoded batch: events in folding order with their coordinates, and the records that are no events."""

    spans: Sequence[Span]
    events: list[Event]
    sources: list[Source]
    records: list[SourceRecord]
    dead: list[tuple[SourceRecord, str, str]]  # record, topic, reason
    columns: EventColumns | None
    rows: Mapping[str, EntityRows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Scores batches. Holds no state of its own: what it knows of the past it reads from the store."""

    decoder: Decoder
    identity: Identity
    engine: FeatureEngine
    store: Store
    ranker: Ranker
    decider: Decider
    encoder: AnswerEncoder
    clock: Clock
    metrics: Metrics
    model_thread: Executor

    def prepare(self, spans: Sequence[Span], records: Iterable[tuple[str, SourceRecord]]) -> Prepared:
        """Decode a batch.

        Args:
            spans: What the batch applies.
            records: Each record with its topic (without prefix); all inside the spans.
        """
        decoded: list[tuple[int, str, int, int, Event, SourceRecord]] = []
        dead: list[tuple[SourceRecord, str, str]] = []
        for topic, record in records:
            try:
                event = self.decoder.decode(topic, record.key, record.value, record.timestamp)
            except InvalidEventError as err:
                dead.append((record, topic, str(err)))
            else:
                decoded.append((event.event_time_ms, topic, record.partition, record.offset, event, record))
        decoded.sort(key=_folding_order)
        events = [entry[4] for entry in decoded]
        sources = [Source(entry[1], entry[2], entry[3]) for entry in decoded]
        columns = self.engine.columns(events, [s.partition for s in sources], self.identity) if events else None
        rows = self.engine.rows(columns) if columns is not None else {}
        return Prepared(spans, events, sources, [entry[5] for entry in decoded], dead, columns, rows)

    async def score(self, batch: Prepared, known: Mapping[int, int] = MappingProxyType({})) -> list[GroupStep]:
        """Read the batch's histories, score it, and say what to commit; changes nothing.

        Args:
            batch: What `prepare` made.
            known: Group -> commit number that the store has confirmed before.

        Raises:
            StoreSteppedBackError: The read saw less than `known` of some group, be it of this batch or not.
        """
        outboxes: dict[int, OutboxBatch] = {}
        writes: dict[int, list[StateWrite]] = {}
        snapshot = await self.store.read(batch.rows)
        lost = {group: (snapshot.reads[group], commit) for group, commit in known.items() if snapshot.reads[group] < commit}
        if lost:
            raise StoreSteppedBackError(
                f"the store holds fewer commits than it has confirmed (group: found, confirmed): {lost}; it has lost writes or "
                "was restored. The worker starts again from the store's front; Kafka has the rest."
            )
        for group in sorted({span.group for span in batch.spans}):
            outboxes[group] = OutboxBatch(group, {}, self._journal_line(group, batch.spans, snapshot))
        if batch.columns is not None:
            engine = self.engine
            own = {kind: engine.unpack(kind, blobs) for kind, blobs in snapshot.own.items()}
            others = {kind: engine.merge(kind, blobs) for kind, blobs in snapshot.others.items()}
            folded = engine.fold(batch.columns, batch.rows, own, others)
            loop = asyncio.get_running_loop()
            scored, fraud = await loop.run_in_executor(self.model_thread, self.ranker.rank, folded.inputs())
            decisions = self.decider.decide(fraud, folded.dense, batch.columns.kind)
            self._add_answers(batch, folded, scored, decisions, outboxes)
            writes = self._state_writes(batch.rows, own, folded)
        for record, topic, reason in batch.dead:
            key, letter = self.encoder.dead_letter(record, topic, reason, "codec.decode")
            outboxes[record.partition].add("dead-letters", key, letter)
            self.metrics.dead_letters.labels(topic).inc()
        return [
            GroupStep(
                group,
                next(span.epoch for span in batch.spans if span.group == group),
                {span.topic: (span.start, span.end) for span in batch.spans if span.group == group},
                encode_outbox(outbox),
                writes.get(group, ()),
                after=snapshot.reads[group],
            )
            for group, outbox in outboxes.items()
        ]

    def _journal_line(self, group: int, spans: Sequence[Span], snapshot: Snapshot) -> JournalLine:
        own = [span for span in spans if span.group == group]
        return JournalLine(
            group=group,
            commit=0,  # drawn by the store; filled in when published
            epoch=own[0].epoch,
            ranges={span.topic: (span.start, span.end) for span in own},
            reads={str(other): commit for other, commit in snapshot.reads.items()},
            model_version=self.encoder.model_version,
            features_version=self.encoder.features_version,
        )

    def _add_answers(
        self,
        batch: Prepared,
        folded: FoldResult,
        scored: ScoredRows,
        decisions: Decisions,
        outboxes: Mapping[int, OutboxBatch],
    ) -> None:
        encoder, now_ms = self.encoder, self.clock.now_ms()
        late, alerts = folded.late.tolist(), decisions.alert.tolist()
        for row, (event, source, record) in enumerate(zip(batch.events, batch.sources, batch.records, strict=True)):
            outbox, key = outboxes[source.partition], record.key
            if late[row]:
                late_by_ms = int(folded.late_by_ms[row])
                value = record.value or b""
                line = encoder.late_event(source, value, late_by_ms, self.engine.allowed_lateness_ms)
                outbox.add("late-events", key, line)
                self.metrics.late_events.labels(source.topic).inc()
                continue
            times_ms = (record.timestamp, now_ms)
            label, candidates = encoder.answers(event, source, times_ms, row, scored, alert=alerts[row])
            outbox.add("intent-labels", key, label)
            outbox.add("recommendation-candidates", key, candidates)
            if alerts[row]:
                why = (decisions.rules[row], decisions.reasons[row])
                outbox.add("fraud-alerts", key, encoder.alert(event, source, times_ms, scored.fraud[row], why))

    def _state_writes(
        self, rows: Mapping[str, EntityRows], own: Mapping[str, npt.NDArray[np.int64]], folded: FoldResult
    ) -> dict[int, list[StateWrite]]:
        writes: dict[int, list[StateWrite]] = {}
        for kind in self.engine.kinds:
            entity_rows = rows.get(kind.name)
            if entity_rows is None or not len(entity_rows.keys):
                continue
            blobs = self.engine.pack(kind.name, own[kind.name])
            touched = folded.touched[kind.name].tolist()
            by_group: dict[int, tuple[list[bytes], list[bytes]]] = {}
            for group, key, blob, is_touched in zip(entity_rows.groups.tolist(), entity_rows.keys, blobs, touched, strict=True):
                if is_touched:
                    keys, values = by_group.setdefault(group, ([], []))
                    keys.append(key)
                    values.append(blob)
            for group, (keys, values) in by_group.items():
                writes.setdefault(group, []).append(StateWrite(kind.name, kind.shared, keys, values, kind.ttl_ms))
        return writes


def _folding_order(entry: tuple[int, str, int, int, Event, SourceRecord]) -> tuple[int, str, int, int]:
    return entry[:4]
