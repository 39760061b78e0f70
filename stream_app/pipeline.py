"""The way of one event, on one page. Live and replay call these functions; only clock, source, store and sink differ.

    records -> prepare: decode, columns, rows            no state, no waiting: may run while an earlier batch is scored
            -> score:   read, fold, model, decide        after the batch before has committed its state
            -> steps:   what to commit, group by group   (the caller commits, publishes and acknowledges, in this order)

A batch is whatever waits, over all partition groups of the worker. Its events are folded in the order (event time, topic,
partition, offset), and each sees its own past only: its user's events before it, and of a shared entity the own group's events
before it and the other groups' replicas as the batch's read found them.

Canonical replay (stream_app/replay/canonical.py) gives records in folding order and says that all are of one group.

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

import msgspec
import numpy as np
import numpy.typing as npt

from stream_app.clock import Clock
from stream_app.codec.answers import AnswerEncoder, Origin, SourceRecord, answer_id
from stream_app.codec.answers_again import answers_again, commit_name, first_answers
from stream_app.codec.decode import Decoder
from stream_app.codec.feature_rows import feature_rows
from stream_app.codec.identity import Identity
from stream_app.codec.outbox import OutboxBatch, decode_outbox, encode_outbox
from stream_app.codec.ranked import Ranked
from stream_app.decision.decide import Decider, Decisions
from stream_app.errors import InvalidEventError, StoreSteppedBackError, UnknownLayoutError
from stream_app.events import Event, JournalLine, Source
from stream_app.features.columns import EntityRows, EventColumns
from stream_app.features.engine import FeatureEngine, FoldResult, Others
from stream_app.metrics import Metrics
from stream_app.store.port import GroupStep, Snapshot, StateWrite, Store

__all__ = ["Judged", "Pipeline", "Prepared", "Ranker", "Scored", "Span"]


class Ranker(Protocol):
    """The model and its item index."""

    @property
    def version(self) -> str:
        """Version of the champion."""
        ...

    def rank(self, inputs: Mapping[str, npt.NDArray[Any]], users: Sequence[bytes]) -> Ranked:
        """Score B events by model.contract.INPUTS; called in the model's own thread.

        Args:
            inputs: The tensors; their rows' owner may change them once this has returned.
            users: B digests of 16 bytes: whose event each row is.
        """
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
    """A decoded batch: events in folding order with their coordinates and groups, and the records that are no events."""

    spans: Sequence[Span]
    events: list[Event]
    sources: list[Source]
    groups: list[int]
    records: list[SourceRecord]
    dead: list[tuple[SourceRecord, str, str, int]]  # record, topic, reason, group
    columns: EventColumns | None
    rows: Mapping[str, EntityRows]


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch's folded and scored rows, and the outboxes of the earlier commits that its duplicates were answered in."""

    folded: FoldResult
    ranked: Ranked
    decisions: Decisions
    alerts: list[bool]
    commits: npt.NDArray[np.int64]  # (B,) what the step of the event's group will be numbered; a duplicate of less came before
    earlier: Mapping[tuple[int, int], OutboxBatch | None]  # by (group, commit); None: no longer kept


@dataclass(frozen=True, slots=True)
class Scored:
    """What to commit, and what to publish once that is done: for each group its step, and the messages in the step's payload.

    `judged` is what the messages were made of; None where the batch has no events.
    """

    steps: list[GroupStep]
    outboxes: Mapping[int, OutboxBatch]
    judged: Judged | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Scores batches. Holds no state of its own: what it knows of the past it reads from the store.

    With `scored_at_ingest` an answer says that it was decided when its record came, not by the clock: of a replay no other time
    is the same wherever its batches are cut.
    """

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
    scored_at_ingest: bool = False
    records_features: bool = False

    def prepare(
        self, spans: Sequence[Span], records: Iterable[tuple[str, SourceRecord]], *, group: int | None = None
    ) -> Prepared:
        """Decode a batch.

        Args:
            spans: What the batch applies.
            records: Each record with its topic (without prefix); all inside the spans.
            group: None: a record belongs to the group of its partition, and the batch is put into folding order here. Else all
                belong to this one, wherever they stand, and they come in folding order; `rows` is left empty.
        """
        decoded: list[tuple[int, str, int, int, Event, SourceRecord]] = []
        dead: list[tuple[SourceRecord, str, str, int]] = []
        for topic, record in records:
            try:
                event = self.decoder.decode(topic, record.key, record.value, record.timestamp)
            except InvalidEventError as err:
                dead.append((record, topic, str(err), record.partition if group is None else group))
            else:
                decoded.append((event.event_time_ms, topic, record.partition, record.offset, event, record))
        if group is None:
            decoded.sort(key=_folding_order)
        events = [entry[4] for entry in decoded]
        sources = [Source(entry[1], entry[2], entry[3]) for entry in decoded]
        groups = [entry[2] for entry in decoded] if group is None else [group] * len(decoded)
        columns = self.engine.columns(events, groups, self.identity) if events else None
        rows = self.engine.rows(columns) if columns is not None and group is None else {}
        return Prepared(spans, events, sources, groups, [entry[5] for entry in decoded], dead, columns, rows)

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
        writes: dict[int, list[StateWrite]] = {}
        snapshot = await self.store.read(batch.rows)
        lost = {group: (snapshot.reads[group], commit) for group, commit in known.items() if snapshot.reads[group] < commit}
        if lost:
            raise StoreSteppedBackError(
                f"the store holds fewer commits than it has confirmed (group: found, confirmed): {lost}; it has lost writes or "
                "was restored. The worker starts again from the store's front; Kafka has the rest."
            )
        judged: Judged | None = None
        if batch.columns is not None:
            folded, commits, own = await self._fold(batch.columns, batch.rows, snapshot)
            judged = await self._judge(batch.columns, folded, commits)
            writes = self._state_writes(batch.rows, own, folded)
        outboxes = self._answered(batch, judged, snapshot.reads)
        return Scored([_step(outbox, batch.spans, writes, snapshot) for outbox in outboxes.values()], outboxes, judged)

    async def answer(
        self, batch: Prepared, folded: FoldResult | None, first: int
    ) -> tuple[Mapping[int, OutboxBatch], Judged | None]:
        """Score, decide and answer a batch of one group that was folded elsewhere (a replay that keeps its state unpacked).

        Args:
            batch: What `prepare` made.
            folded: Its events, each folded under its own running number in the place of a commit's; None where it has none.
            first: The number of the first one. The store's `answers` are asked for those of lower numbers.

        Returns:
            The messages by group, and what they were made of.
        """
        judged: Judged | None = None
        if batch.columns is not None and folded is not None:
            judged = await self._judge(batch.columns, folded, np.full(len(batch.columns), first, np.int64))
        return self._answered(batch, judged, {}), judged

    def _answered(self, batch: Prepared, judged: Judged | None, reads: Mapping[int, int]) -> dict[int, OutboxBatch]:
        """Give every record of the batch its fate."""
        now_ms = self.clock.now_ms()
        line = self._journal_line(judged.ranked if judged is not None else None, reads, now_ms)
        outboxes = {
            group: OutboxBatch(group, {}, _of_group(line, group, batch.spans))
            for group in sorted({span.group for span in batch.spans})
        }
        if judged is not None:
            self._add_fates(batch, judged, outboxes, now_ms)
            self._add_forgotten(judged, outboxes)
            if self.records_features:
                self._add_features(batch, judged.folded, outboxes)
        for record, topic, reason, group in batch.dead:
            key, letter = self.encoder.dead_letter(record, topic, reason, "codec.decode")
            outboxes[group].add("dead-letters", key, letter)
            self.metrics.dead_letters.labels(topic).inc()
        return outboxes

    def _decoded(self, snapshot: Snapshot) -> tuple[dict[str, npt.NDArray[np.int64]], dict[str, Others]]:
        """Per kind the groups' own state, and that of other groups merged."""
        own = {kind: self.engine.unpack(kind, blobs) for kind, blobs in snapshot.own.items()}
        others = {kind: self.engine.merge(kind, blobs) for kind, blobs in snapshot.others.items()}
        return own, others

    async def _fold(
        self, columns: EventColumns, rows: Mapping[str, EntityRows], snapshot: Snapshot
    ) -> tuple[FoldResult, npt.NDArray[np.int64], dict[str, npt.NDArray[np.int64]]]:
        """Return the features, the number (B,) that each event's step will get, and per kind the groups' own new state."""
        try:
            own, others = self._decoded(snapshot)
        except UnknownLayoutError:  # who wrote it has described it before
            await self.learn_layouts()
            own, others = self._decoded(snapshot)
        commits = np.array([snapshot.reads[group] + 1 for group in columns.group.tolist()], np.int64)
        return self.engine.fold(columns, rows, own, others, commits), commits, own

    async def _judge(self, columns: EventColumns, folded: FoldResult, commits: npt.NDArray[np.int64]) -> Judged:
        """Score the events of a batch and decide; ask for what is known of those that came before."""
        loop = asyncio.get_running_loop()
        ranked, earlier = await asyncio.gather(
            loop.run_in_executor(self.model_thread, self.ranker.rank, folded.inputs(), columns.keys["user"]),
            self._earlier_outboxes(columns.group, folded.duplicate_of, commits),
        )
        decisions = self.decider.decide(ranked, folded.dense, columns.kind)
        return Judged(folded, ranked, decisions, decisions.alert.tolist(), commits, earlier)

    def _journal_line(self, ranked: Ranked | None, reads: Mapping[int, int], now_ms: int) -> JournalLine:
        """Say what the lines of all groups of a batch have in common; `ranked` is None where it has no events."""
        return JournalLine(
            group=-1,
            commit=0,  # drawn by the store; filled in when published
            epoch="",
            ranges={},
            reads={str(other): commit for other, commit in reads.items()},
            scored_time_ms=now_ms,
            model_version=ranked.champion.version if ranked is not None else self.ranker.version,
            features_version=self.encoder.features_version,
            challengers={c.norms.version: c.percent for c in ranked.challengers} if ranked is not None else {},
            degraded=ranked is not None and ranked.degraded,
        )

    async def _earlier_outboxes(
        self, groups: npt.NDArray[np.int32], duplicate_of: npt.NDArray[np.int64], commits: npt.NDArray[np.int64]
    ) -> dict[tuple[int, int], OutboxBatch | None]:
        """Ask the store what the commits answered that applied the first ones of this batch's duplicates, group by group.

        Returns:
            What is kept by (group, commit); None where it is not kept any more.
        """
        rows = np.flatnonzero((duplicate_of >= 0) & (duplicate_of < commits))
        wanted: dict[int, set[int]] = {}
        for group, commit in zip(groups[rows].tolist(), duplicate_of[rows].tolist(), strict=True):
            wanted.setdefault(group, set()).add(commit)
        answers = await asyncio.gather(*(self.store.answers(group, sorted(numbers)) for group, numbers in wanted.items()))
        decoded = {payload: decode_outbox(payload) for of in answers for payload in set(of.values())}
        return {
            (group, commit): decoded[of[commit]] if commit in of else None
            for (group, numbers), of in zip(wanted.items(), answers, strict=True)
            for commit in sorted(numbers)
        }

    def _add_forgotten(self, judged: Judged, outboxes: Mapping[int, OutboxBatch]) -> None:
        """Note in the journal which earlier answers were looked for and are no longer kept."""
        for (group, commit), found in judged.earlier.items():
            if found is None:
                outboxes[group].journal.forgotten.append(commit)

    def _add_features(self, batch: Prepared, folded: FoldResult, outboxes: Mapping[int, OutboxBatch]) -> None:
        """Record what the model saw of the events that it answered."""
        ids = [answer_id(source.topic, source.partition, source.offset) for source in batch.sources]
        rows = feature_rows(ids, folded.inputs(), self.encoder.features_version)
        for record, group, late, value in zip(batch.records, batch.groups, folded.late.tolist(), rows, strict=True):
            if not late:
                outboxes[group].add("features", record.key, value)

    def _add_fates(self, batch: Prepared, judged: Judged, outboxes: Mapping[int, OutboxBatch], now_ms: int) -> None:
        folded = judged.folded
        late, duplicate_of = folded.late.tolist(), folded.duplicate_of.tolist()
        firsts = _first_rows(batch, judged) if (folded.duplicate_of >= judged.commits).any() else {}
        for row, (event, source, record) in enumerate(zip(batch.events, batch.sources, batch.records, strict=True)):
            outbox, key = outboxes[batch.groups[row]], record.key
            if late[row]:
                late_by_ms = int(folded.late_by_ms[row])
                line = self.encoder.late_event(source, record.value or b"", late_by_ms, self.engine.allowed_lateness_ms)
                outbox.add("late-events", key, line)
                self.metrics.late_events.labels(source.topic).inc()
                continue
            origin = Origin(source, record.timestamp, self._scored_ms(event, record, now_ms))
            if duplicate_of[row] < 0:
                self._add_answers(outbox, key, event, origin, row, judged)
                continue
            first_row = firsts.get(_named(source.topic, batch.groups[row], event))
            if duplicate_of[row] >= judged.commits[row] and first_row is not None:
                first, first_event = batch.sources[first_row], batch.events[first_row]
                origin = origin._replace(
                    scored_time_ms=self._scored_ms(first_event, batch.records[first_row], now_ms),
                    duplicate_of=answer_id(first.topic, first.partition, first.offset),
                )
                self._add_answers(outbox, key, first_event, origin, first_row, judged)
                self.metrics.duplicates.labels(source.topic, "first").inc()
                continue
            self._answer_again(outbox, key, event, origin, row, judged)

    def _scored_ms(self, event: Event, record: SourceRecord, now_ms: int) -> int:
        if not self.scored_at_ingest:
            return now_ms
        return record.timestamp if record.timestamp >= 0 else event.event_time_ms

    def _answer_again(
        self, outbox: OutboxBatch, key: bytes | None, event: Event, origin: Origin, row: int, judged: Judged
    ) -> None:
        """Answer a duplicate of an event of an earlier commit: as it was then, or as of now if that is no longer kept."""
        source, group, commit = origin.source, outbox.group, int(judged.folded.duplicate_of[row])
        earlier = judged.earlier.get((group, commit))
        found = first_answers(earlier, key, source.topic, event) if earlier is not None else {}
        for topic, answer in answers_again(found, source, origin.ingest_time_ms).items():
            outbox.add(topic, key, answer)
        if not found:
            origin = origin._replace(duplicate_of=commit_name(group, commit))
            self._add_answers(outbox, key, event, origin, row, judged)
        self.metrics.duplicates.labels(source.topic, "first" if found else "again").inc()

    def _add_answers(
        self, outbox: OutboxBatch, key: bytes | None, event: Event, origin: Origin, row: int, judged: Judged
    ) -> None:
        alert = judged.alerts[row]
        label, candidates = self.encoder.answers(event, origin, row, judged.ranked, alert=alert)
        outbox.add("intent-labels", key, label)
        outbox.add("recommendation-candidates", key, candidates)
        if alert:
            why = (judged.decisions.rules[row], judged.decisions.reasons[row])
            outbox.add("fraud-alerts", key, self.encoder.alert(event, origin, row, judged.ranked, why))

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


def _of_group(line: JournalLine, group: int, spans: Sequence[Span]) -> JournalLine:
    own = [span for span in spans if span.group == group]
    ranges = {span.topic: (span.start, span.end) for span in own}
    return msgspec.structs.replace(line, group=group, epoch=own[0].epoch, ranges=ranges, forgotten=[])


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


def _named(topic: str, group: int, event: Event) -> _Name:
    """What two events have in common that are one event, sent twice: group, topic, user, event id and event time."""
    return group, topic, event.user, event.event_id, event.event_time_ms


def _first_rows(batch: Prepared, judged: Judged) -> dict[_Name, int]:
    """Number the events of the batch that are counted, by what names them."""
    counted = (judged.folded.duplicate_of < 0) & ~judged.folded.late
    rows = np.flatnonzero(counted).tolist()
    return {_named(batch.sources[row].topic, batch.groups[row], batch.events[row]): row for row in rows}


def _folding_order(entry: tuple[int, str, int, int, Event, SourceRecord]) -> tuple[int, str, int, int]:
    return entry[:4]
