"""The life of an event on one page. Live and replay call these functions; only clock, source, store and sink differ.

    records -> prepare: decode, columns, rows            no state, no waiting: runs while earlier batches are scored
            -> score:   read, fold, score, decide        after the previous batches of its groups have committed
            -> steps:   what to commit, group by group   (the caller commits, publishes and acknowledges, in this order)

A batch holds what waits in all partition groups of the worker. Its events are folded in the order (event time, topic,
partition, offset). Each event reads only its own past:

- of its user: the user's earlier events;
- of a shared entity: the earlier events of its own group, and the other groups' replicas as the batch's read saw them.

Canonical replay (stream_app/replay/canonical.py) passes records in folding order, all in one group.

`stream_app.outputs` builds the outcome of each record: every offset gets exactly one of: answers, a late event, a dead letter. A
duplicate, an event that its producer sent before, changes no state and gets its first answers again
(docs/adr/0009-duplicates.md).
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

from stream_app.batch import DeadRecord, DecodedBatch, OffsetSpan, ScoredBatch
from stream_app.codec.answers import SourceRecord
from stream_app.codec.decode import Decoder
from stream_app.codec.outbox import OutboxBatch, decode_outbox, encode_outbox
from stream_app.decision.decide import Decider
from stream_app.errors import InvalidEventError, UnknownLayoutError
from stream_app.events import Event, Source
from stream_app.features.columns.event_columns import EntityRows, EventColumns
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldResult, MergedReplicas
from stream_app.outputs import OutputBuilder
from stream_app.privacy import Pseudonymizer
from stream_app.ranked import RankedBatch
from stream_app.store.port import GroupStep, Snapshot, StateWrite, Store


class Ranker(Protocol):
    """The model and its item index. `stream_app.wiring` draws the implementations around each other."""

    @property
    def version(self) -> str:
        """Version of the champion."""
        ...

    def rank(self, inputs: Mapping[str, npt.NDArray[Any]], users: Sequence[bytes]) -> RankedBatch:
        """Score B events; called in the model's own thread.

        Args:
            inputs: The tensors of model.contract.INPUTS; the caller may change them after this returns.
            users: B digests of 16 bytes, the user of each row.
        """
        ...


@dataclass(frozen=True, slots=True)
class BatchCommit:
    """What to commit, and what to publish afterwards: for each group its step, and the messages in the step's payload.

    `scored` holds the events that the messages were built from; None if the batch has no events.
    """

    steps: list[GroupStep]
    outboxes: Mapping[int, OutboxBatch]
    scored: ScoredBatch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Scores batches. It holds no state: it reads the past from the store."""

    decoder: Decoder
    identity: Pseudonymizer
    engine: FeatureEngine
    store: Store
    ranker: Ranker
    decider: Decider
    outputs: OutputBuilder
    model_thread: Executor

    def prepare(
        self, spans: Sequence[OffsetSpan], records: Iterable[tuple[str, SourceRecord]], *, group: int | None = None
    ) -> DecodedBatch:
        """Decode a batch.

        Args:
            spans: The offsets that the batch applies.
            records: Each record with its topic (without prefix); all inside the spans.
            group: None: a record belongs to the group of its partition, and this method sorts the batch into folding order. Else
                all records belong to this group and come in folding order; `rows` stays empty.
        """
        decoded: list[tuple[int, str, int, int, Event, SourceRecord]] = []
        dead: list[DeadRecord] = []
        for topic, record in records:
            try:
                event = self.decoder.decode(topic, record.key, record.value, record.timestamp)
            except InvalidEventError as err:
                dead.append(DeadRecord(record, topic, str(err), err.kind, record.partition if group is None else group))
            else:
                decoded.append((event.event_time_ms, topic, record.partition, record.offset, event, record))
        if group is None:
            decoded.sort(key=_folding_order)
        events = [entry[4] for entry in decoded]
        sources = [Source(entry[1], entry[2], entry[3]) for entry in decoded]
        groups = [entry[2] for entry in decoded] if group is None else [group] * len(decoded)
        columns = self.engine.columns(events, groups, self.identity) if events else None
        rows = self.engine.rows(columns) if columns is not None and group is None else {}
        return DecodedBatch(spans, events, sources, groups, [entry[5] for entry in decoded], dead, columns, rows)

    async def learn_layouts(self) -> None:
        """Register this catalogue's layouts in the store and learn the layouts of other catalogues; before the first claim.

        Called at each assignment, and by `score` when it meets an unknown layout: if two workers with different catalogues are
        assigned at once, one may read the layouts before the other has written its own.
        """
        self.engine.learn_layouts(await self.store.layouts(self.engine.layout_records()))

    async def score(self, batch: DecodedBatch, known: Mapping[int, int] = MappingProxyType({})) -> BatchCommit:
        """Read the state of the batch's entities, score its events, and return what to commit; changes nothing.

        Args:
            batch: The result of `prepare`.
            known: Group -> last commit number that the store has confirmed.

        Raises:
            StoreRolledBackError: The read saw a lower commit number than `known` for some group, of this batch or not.
            UnknownLayoutError: The state has the layout of another catalogue, and the store does not know it either.
        """
        writes: dict[int, list[StateWrite]] = {}
        snapshot = await self.store.read(batch.rows)
        snapshot.refuse_rollback(known)
        scored: ScoredBatch | None = None
        if batch.columns is not None:
            folded, commits, own = await self._fold(batch.columns, batch.rows, snapshot)
            scored = await self._score_and_decide(batch.columns, folded, commits)
            writes = self._state_writes(batch.rows, own, folded)
        outboxes = self.outputs.build(batch, scored, snapshot.reads, self.ranker.version)
        return BatchCommit([_step(outbox, batch.spans, writes, snapshot) for outbox in outboxes.values()], outboxes, scored)

    async def score_folded(
        self, batch: DecodedBatch, folded: FoldResult | None, first: int
    ) -> tuple[Mapping[int, OutboxBatch], ScoredBatch | None]:
        """Score a batch of one group that the caller has folded, decide, and build its messages.

        A replay that keeps its state unpacked calls this in place of `score`.

        Args:
            batch: The result of `prepare`.
            folded: Its events, each folded under a running number in place of a commit number; None if it has no events.
            first: The running number of the first event. Duplicates of lower numbers get their answers from the store.

        Returns:
            The messages by group, and the scored events.
        """
        scored: ScoredBatch | None = None
        if batch.columns is not None and folded is not None:
            scored = await self._score_and_decide(batch.columns, folded, np.full(len(batch.columns), first, np.int64))
        return self.outputs.build(batch, scored, {}, self.ranker.version), scored

    def _unpack(self, snapshot: Snapshot) -> tuple[dict[str, npt.NDArray[np.int64]], dict[str, MergedReplicas]]:
        """Return for each kind the groups' own state, and the merged replicas of the other groups."""
        own = {kind: self.engine.unpack(kind, blobs) for kind, blobs in snapshot.own.items()}
        others = {kind: self.engine.merge(kind, blobs) for kind, blobs in snapshot.others.items()}
        return own, others

    async def _fold(
        self, columns: EventColumns, rows: Mapping[str, EntityRows], snapshot: Snapshot
    ) -> tuple[FoldResult, npt.NDArray[np.int64], dict[str, npt.NDArray[np.int64]]]:
        """Return the features, the commit number (B,) that each event's step will get, and the groups' own new state by kind."""
        try:
            own, others = self._unpack(snapshot)
        except UnknownLayoutError:  # its writer has registered it before writing
            await self.learn_layouts()
            own, others = self._unpack(snapshot)
        commits = np.array([snapshot.reads[group] + 1 for group in columns.group.tolist()], np.int64)
        return self.engine.fold(columns, rows, own, others, commits), commits, own

    async def _score_and_decide(self, columns: EventColumns, folded: FoldResult, commits: npt.NDArray[np.int64]) -> ScoredBatch:
        """Score the events of a batch, decide, and read the earlier answers of its duplicates."""
        loop = asyncio.get_running_loop()
        ranked, earlier = await asyncio.gather(
            loop.run_in_executor(self.model_thread, self.ranker.rank, folded.inputs(), columns.keys["user"]),
            self._earlier_outboxes(columns.group, folded.duplicate_of, commits),
        )
        decisions = self.decider.decide(ranked, folded.dense, columns.kind)
        return ScoredBatch(folded, ranked, decisions, decisions.alert.tolist(), commits, earlier)

    async def _earlier_outboxes(
        self, groups: npt.NDArray[np.int32], duplicate_of: npt.NDArray[np.int64], commits: npt.NDArray[np.int64]
    ) -> dict[tuple[int, int], OutboxBatch | None]:
        """Read the outboxes of the commits that answered this batch's duplicates first.

        Returns:
            The outbox by (group, commit); None if the store no longer keeps it.
        """
        rows = np.flatnonzero((duplicate_of >= 0) & (duplicate_of < commits))
        by_group: dict[int, set[int]] = {}
        for group, commit in zip(groups[rows].tolist(), duplicate_of[rows].tolist(), strict=True):
            by_group.setdefault(group, set()).add(commit)
        answers = await asyncio.gather(*(self.store.answers(group, sorted(numbers)) for group, numbers in by_group.items()))
        decoded = {payload: decode_outbox(payload) for payloads in answers for payload in set(payloads.values())}
        return {
            (group, commit): decoded[payloads[commit]] if commit in payloads else None
            for (group, numbers), payloads in zip(by_group.items(), answers, strict=True)
            for commit in sorted(numbers)
        }

    def _state_writes(
        self, rows: Mapping[str, EntityRows], own: Mapping[str, npt.NDArray[np.int64]], folded: FoldResult
    ) -> dict[int, list[StateWrite]]:
        """Pack the rows that the fold touched: rows are sorted by group, so each group's part of a kind is one run of rows."""
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
    outbox: OutboxBatch, spans: Sequence[OffsetSpan], writes: Mapping[int, Sequence[StateWrite]], snapshot: Snapshot
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


def _folding_order(entry: tuple[int, str, int, int, Event, SourceRecord]) -> tuple[int, str, int, int]:
    return entry[:4]
