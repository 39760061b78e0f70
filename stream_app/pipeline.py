"""The way of one event, on one page. Live and replay call these functions; only clock, source, store and sink differ.

    records -> prepare: decode, columns, rows            no state, no waiting: may run while an earlier batch is scored
            -> score:   read, fold, model, decide        after the batch before has committed its state
            -> steps:   what to commit, group by group   (the caller commits, publishes and acknowledges, in this order)

A batch is whatever waits, over all partition groups of the worker. Its events are folded in the order (event time, topic,
partition, offset), and each sees its own past only: its user's events before it, and of a shared entity the own group's events
before it and the other groups' replicas as the batch's read found them.

Canonical replay (stream_app/replay/canonical.py) gives records in folding order and says that all are of one group.

What becomes of each record then (answers, a late event, a dead letter) is `stream_app.outputs`' business: every offset in gets
exactly one fate. An event that its producer has sent before changes no state and gets the answers that it got then
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

from stream_app.batch import DecodedBatch, OffsetSpan, ScoredBatch
from stream_app.codec.answers import SourceRecord
from stream_app.codec.decode import Decoder
from stream_app.codec.outbox import OutboxBatch, decode_outbox, encode_outbox
from stream_app.decision.decide import Decider
from stream_app.errors import InvalidEventError, StoreRolledBackError, UnknownLayoutError
from stream_app.events import Event, Source
from stream_app.features.columns.event_columns import EntityRows, EventColumns
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldResult, MergedReplicas
from stream_app.outputs import OutputBuilder
from stream_app.privacy import Pseudonymizer
from stream_app.ranked import RankedBatch
from stream_app.store.port import GroupStep, Snapshot, StateWrite, Store

__all__ = ["BatchCommit", "Pipeline", "Ranker"]


class Ranker(Protocol):
    """The model and its item index."""

    @property
    def version(self) -> str:
        """Version of the champion."""
        ...

    def rank(self, inputs: Mapping[str, npt.NDArray[Any]], users: Sequence[bytes]) -> RankedBatch:
        """Score B events by model.contract.INPUTS; called in the model's own thread.

        Args:
            inputs: The tensors; their rows' owner may change them once this has returned.
            users: B digests of 16 bytes: whose event each row is.
        """
        ...


@dataclass(frozen=True, slots=True)
class BatchCommit:
    """What to commit, and what to publish once that is done: for each group its step, and the messages in the step's payload.

    `scored` is what the messages were made of; None where the batch has no events.
    """

    steps: list[GroupStep]
    outboxes: Mapping[int, OutboxBatch]
    scored: ScoredBatch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Scores batches. Holds no state of its own: what it knows of the past it reads from the store."""

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
        return DecodedBatch(spans, events, sources, groups, [entry[5] for entry in decoded], dead, columns, rows)

    async def learn_layouts(self) -> None:
        """Tell the store what this catalogue's blobs look like, and learn those of others; before the first claim.

        Called at each assignment, and by `score` when it meets a layout that it has not heard of: of two workers with different
        catalogues that are assigned at once, one may look before the other has written.
        """
        self.engine.learn_layouts(await self.store.layouts(self.engine.layout_records()))

    async def score(self, batch: DecodedBatch, known: Mapping[int, int] = MappingProxyType({})) -> BatchCommit:
        """Read the batch's histories, score it, and say what to commit; changes nothing.

        Args:
            batch: What `prepare` made.
            known: Group -> commit number that the store has confirmed before.

        Raises:
            StoreRolledBackError: The read saw less than `known` of some group, be it of this batch or not.
            UnknownLayoutError: State of another catalogue, which the store does not describe either.
        """
        writes: dict[int, list[StateWrite]] = {}
        snapshot = await self.store.read(batch.rows)
        lost = {group: (snapshot.reads[group], commit) for group, commit in known.items() if snapshot.reads[group] < commit}
        if lost:
            raise StoreRolledBackError(
                f"the store holds fewer commits than it has confirmed (group: found, confirmed): {lost}; it has lost writes or "
                "was restored. The worker starts again from the store's front; Kafka has the rest."
            )
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
        """Score, decide and answer a batch of one group that was folded elsewhere (a replay that keeps its state unpacked).

        Args:
            batch: What `prepare` made.
            folded: Its events, each folded under its own running number in the place of a commit's; None where it has none.
            first: The number of the first one. The store's `answers` are asked for those of lower numbers.

        Returns:
            The messages by group, and what they were made of.
        """
        scored: ScoredBatch | None = None
        if batch.columns is not None and folded is not None:
            scored = await self._score_and_decide(batch.columns, folded, np.full(len(batch.columns), first, np.int64))
        return self.outputs.build(batch, scored, {}, self.ranker.version), scored

    def _decoded(self, snapshot: Snapshot) -> tuple[dict[str, npt.NDArray[np.int64]], dict[str, MergedReplicas]]:
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

    async def _score_and_decide(self, columns: EventColumns, folded: FoldResult, commits: npt.NDArray[np.int64]) -> ScoredBatch:
        """Score the events of a batch and decide; ask for what is known of those that came before."""
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
