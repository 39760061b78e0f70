"""The way of one event, on one page. Live and replay call these functions; only clock, source, store and sink differ.

    records -> prepare: decode, columns, rows            no state, no waiting: may run while an earlier batch is scored
            -> score:   read, fold, model, decide        after the batch before has committed its state
            -> steps:   what to commit, group by group   (the caller commits, publishes and acknowledges, in this order)

A batch is whatever waits, over all partition groups of the worker. Its events are folded in the order (event time, topic,
partition, offset), and each sees its own past only: its user's events before it, and of a shared entity the own group's events
before it and the other groups' replicas as the batch's read found them.

Every offset in gets exactly one fate: two or three answers, a late event, or a dead letter. An event that its producer has sent
before changes no state and gets the answers that it got then (docs/adr/0009-duplicates.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import compress, pairwise
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stream_app.clock import Clock
from stream_app.codec.answers import AnswerEncoder, Origin, ScoredRows, SourceRecord, answer_id
from stream_app.codec.answers_again import answers_again, commit_name, first_answers
from stream_app.codec.decode import Decoder
from stream_app.codec.identity import Identity
from stream_app.codec.outbox import OutboxBatch, decode_outbox, encode_outbox
from stream_app.decision.decide import Decider, Decisions
from stream_app.errors import InvalidEventError, StoreSteppedBackError, UnknownLayoutError
from stream_app.events import Event, JournalLine, Source
from stream_app.features.columns import EntityRows, EventColumns
from stream_app.features.engine import FeatureEngine, FoldResult, Others
from stream_app.metrics import Metrics
from stream_app.store.port import GroupStep, Snapshot, StateWrite, Store

__all__ = ["Pipeline", "Prepared", "Ranker", "Scored", "Span"]


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


@dataclass(frozen=True, slots=True)
class Scored:
    """What to commit, and what to publish once that is done: for each group its step, and the messages in the step's payload."""

    steps: list[GroupStep]
    outboxes: Mapping[int, OutboxBatch]


@dataclass(frozen=True, slots=True)
class _Judged:
    """A batch's folded and scored rows, and the outboxes of the earlier commits that its duplicates were answered in."""

    folded: FoldResult
    scored: ScoredRows
    decisions: Decisions
    alerts: list[bool]
    commits: npt.NDArray[np.int64]  # (B,) what the step of the event's group will be numbered
    earlier: Mapping[tuple[int, int], OutboxBatch]  # (group, commit)


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

    async def learn_layouts(self) -> None:
        """Tell the store what this catalogue's blobs look like, and learn those of others; before the first claim.

        Called at each assignment, and by `score` when it meets a layout that it has not heard of: of two workers with different
        catalogues that are assigned at once, one may look before the other has written.
        """
        self.engine.learn_layouts(await self.store.layouts(self.engine.layout_records()))

    async def score(self, batch: Prepared, known: Mapping[int, int] = MappingProxyType({})) -> Scored:
        """Read the batch's histories, score it, and say what to commit; changes nothing.

        Args:
            batch: What `prepare` made.
            known: Group -> commit number that the store has confirmed before.

        Raises:
            StoreSteppedBackError: The read saw less than `known` of some group, be it of this batch or not.
            UnknownLayoutError: State of another catalogue, which the store does not describe either.
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
            try:
                own, others = self._decoded(snapshot)
            except UnknownLayoutError:  # who wrote it has described it before
                await self.learn_layouts()
                own, others = self._decoded(snapshot)
            commits = np.array([snapshot.reads[group] + 1 for group in batch.columns.group.tolist()], np.int64)
            folded = self.engine.fold(batch.columns, batch.rows, own, others, commits)
            loop = asyncio.get_running_loop()
            (scored, fraud), earlier = await asyncio.gather(
                loop.run_in_executor(self.model_thread, self.ranker.rank, folded.inputs()),
                self._earlier_outboxes(batch.columns.group, folded.duplicate_of, commits),
            )
            decisions = self.decider.decide(fraud, folded.dense, batch.columns.kind)
            self._add_fates(batch, _Judged(folded, scored, decisions, decisions.alert.tolist(), commits, earlier), outboxes)
            writes = self._state_writes(batch.rows, own, folded)
        for record, topic, reason in batch.dead:
            key, letter = self.encoder.dead_letter(record, topic, reason, "codec.decode")
            outboxes[record.partition].add("dead-letters", key, letter)
            self.metrics.dead_letters.labels(topic).inc()
        return Scored([_step(outbox, batch.spans, writes, snapshot) for outbox in outboxes.values()], outboxes)

    def _decoded(self, snapshot: Snapshot) -> tuple[dict[str, npt.NDArray[np.int64]], dict[str, Others]]:
        """Per kind the groups' own state, and that of other groups merged."""
        own = {kind: self.engine.unpack(kind, blobs) for kind, blobs in snapshot.own.items()}
        others = {kind: self.engine.merge(kind, blobs) for kind, blobs in snapshot.others.items()}
        return own, others

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

    async def _earlier_outboxes(
        self, groups: npt.NDArray[np.int32], duplicate_of: npt.NDArray[np.int64], commits: npt.NDArray[np.int64]
    ) -> dict[tuple[int, int], OutboxBatch]:
        """Ask the store what the commits answered that applied the first ones of this batch's duplicates, group by group."""
        rows = np.flatnonzero((duplicate_of >= 0) & (duplicate_of != commits))
        wanted: dict[int, set[int]] = {}
        for group, commit in zip(groups[rows].tolist(), duplicate_of[rows].tolist(), strict=True):
            wanted.setdefault(group, set()).add(commit)
        answers = await asyncio.gather(*(self.store.answers(group, sorted(numbers)) for group, numbers in wanted.items()))
        return {
            (group, commit): decode_outbox(payload)
            for group, found in zip(wanted, answers, strict=True)
            for commit, payload in found.items()
        }

    def _add_fates(self, batch: Prepared, judged: _Judged, outboxes: Mapping[int, OutboxBatch]) -> None:
        folded, now_ms = judged.folded, self.clock.now_ms()
        late, duplicate_of = folded.late.tolist(), folded.duplicate_of.tolist()
        firsts = _first_rows(batch, judged) if (folded.duplicate_of == judged.commits).any() else {}
        for row, (event, source, record) in enumerate(zip(batch.events, batch.sources, batch.records, strict=True)):
            outbox, key = outboxes[source.partition], record.key
            if late[row]:
                late_by_ms = int(folded.late_by_ms[row])
                line = self.encoder.late_event(source, record.value or b"", late_by_ms, self.engine.allowed_lateness_ms)
                outbox.add("late-events", key, line)
                self.metrics.late_events.labels(source.topic).inc()
                continue
            origin = Origin(source, record.timestamp, now_ms)
            if duplicate_of[row] < 0:
                self._add_answers(outbox, key, event, origin, row, judged)
                continue
            first_row = firsts.get(_named(source, event))
            if duplicate_of[row] == judged.commits[row] and first_row is not None:
                first = batch.sources[first_row]
                origin = origin._replace(duplicate_of=answer_id(first.topic, first.partition, first.offset))
                self._add_answers(outbox, key, batch.events[first_row], origin, first_row, judged)
                self.metrics.duplicates.labels(source.topic, "first").inc()
                continue
            self._answer_again(outbox, key, event, origin, row, judged)

    def _answer_again(
        self, outbox: OutboxBatch, key: bytes | None, event: Event, origin: Origin, row: int, judged: _Judged
    ) -> None:
        """Answer a duplicate of an event of an earlier commit: as it was then, or as of now if that is no longer kept."""
        source, commit = origin.source, int(judged.folded.duplicate_of[row])
        earlier = judged.earlier.get((source.partition, commit))
        found = first_answers(earlier, key, source.topic, event) if earlier is not None else {}
        for topic, answer in answers_again(found, source, origin.ingest_time_ms).items():
            outbox.add(topic, key, answer)
        if not found:
            origin = origin._replace(duplicate_of=commit_name(source.partition, commit))
            self._add_answers(outbox, key, event, origin, row, judged)
        self.metrics.duplicates.labels(source.topic, "first" if found else "again").inc()

    def _add_answers(
        self, outbox: OutboxBatch, key: bytes | None, event: Event, origin: Origin, row: int, judged: _Judged
    ) -> None:
        alert = judged.alerts[row]
        label, candidates = self.encoder.answers(event, origin, row, judged.scored, alert=alert)
        outbox.add("intent-labels", key, label)
        outbox.add("recommendation-candidates", key, candidates)
        if alert:
            why = (judged.decisions.rules[row], judged.decisions.reasons[row])
            outbox.add("fraud-alerts", key, self.encoder.alert(event, origin, judged.scored.fraud[row], why))

    def _state_writes(
        self, rows: Mapping[str, EntityRows], own: Mapping[str, npt.NDArray[np.int64]], folded: FoldResult
    ) -> dict[int, list[StateWrite]]:
        """Pack what was touched: rows come group by group, so each group's part of a kind is one run of them."""
        writes: dict[int, list[StateWrite]] = {}
        for kind in self.engine.kinds:
            is_touched = folded.touched[kind.name]
            touched = np.flatnonzero(is_touched)
            if not len(touched):
                continue
            blobs = self.engine.pack(kind.name, own[kind.name], rows=touched)
            keys = list(compress(rows[kind.name].keys, is_touched.tolist()))
            groups = rows[kind.name].groups[touched]
            edges = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(touched)]
            for first, end in pairwise(edges):
                write = StateWrite(kind.name, kind.shared, keys[first:end], blobs.part(first, end), kind.ttl_ms)
                writes.setdefault(int(groups[first]), []).append(write)
        return writes


def _step(
    outbox: OutboxBatch, spans: Sequence[Span], writes: Mapping[int, Sequence[StateWrite]], snapshot: Snapshot
) -> GroupStep:
    own = [span for span in spans if span.group == outbox.group]
    return GroupStep(
        outbox.group,
        own[0].epoch,
        {span.topic: (span.start, span.end) for span in own},
        encode_outbox(outbox),
        writes.get(outbox.group, ()),
        after=snapshot.reads[outbox.group],
    )


_Name = tuple[int, str, str, str, int]


def _named(source: Source, event: Event) -> _Name:
    """What two events have in common that are one event, sent twice: group, topic, user, event id and event time."""
    return source.partition, source.topic, event.user, event.event_id, event.event_time_ms


def _first_rows(batch: Prepared, judged: _Judged) -> dict[_Name, int]:
    """Number the events of the batch that are counted, by what names them."""
    counted = (judged.folded.duplicate_of < 0) & ~judged.folded.late
    return {_named(batch.sources[row], batch.events[row]): row for row in np.flatnonzero(counted).tolist()}


def _folding_order(entry: tuple[int, str, int, int, Event, SourceRecord]) -> tuple[int, str, int, int]:
    return entry[:4]
