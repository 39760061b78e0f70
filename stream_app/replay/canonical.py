"""Canonical replay: process a log in canonical order by the live pipeline, with separate state.

All records form one partition group: an event sees all earlier events of its entities, from every partition, and no state is a
replica. The virtual clock stands at the timestamp of each record, so answers carry it as the time of their decision. Answers do
not depend on batch borders: every batch size gives the same bytes.

The state stays unpacked in memory (`MemoryState`), or in any store. Fold, model, decisions and encoded answers are the worker's
in both cases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry

from stream_app.batch import DecodedBatch, OffsetSpan, ScoredBatch
from stream_app.clock import SettableClock
from stream_app.codec.outbox import Messages
from stream_app.config import Settings
from stream_app.errors import ConfigError
from stream_app.events import Label
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldResult
from stream_app.logs.log_source import LogChunk
from stream_app.metrics import Metrics
from stream_app.pipeline import Pipeline
from stream_app.replay.checkpoints.checkpoint import Resumable
from stream_app.replay.duplicate_cache import DuplicateCache
from stream_app.replay.memory_state import MemoryState
from stream_app.replay.parallel.state_shards import load_answers, load_state, save_state
from stream_app.store.port import CommitStatus, Store
from stream_app.wiring import build_engine, build_pipeline

_GROUP: Final = 0
_LOG: Final = "log"  # the single topic of a canonical replay's positions, which count records of the log


@dataclass(frozen=True, slots=True)
class ReplayBatch:
    """A replayed batch.

    Attributes:
        first: Position in the log (of records of source topics, from 0) of the batch's first record.
        end: The position after its last record.
        decoded: Its events in canonical order with coordinates and columns, and its invalid records.
        scored: Features, model outputs and decisions of the events; None for a batch without events.
        messages: The messages that a worker publishes for them, by topic.
        labels: The labels between its records, in order.
    """

    first: int
    end: int
    decoded: DecodedBatch
    scored: ScoredBatch | None
    messages: Mapping[str, Messages]
    labels: list[Label]


class CanonicalReplay(Resumable):
    """One replay: pipeline and state.

    Args:
        settings: Settings of a worker: model, features, key of the identities.
        engine: The feature engine; None: the settings'.
        pipeline: A pipeline with replaced parts, such as a ranker; None: as wiring builds it.
        store: Holds the state in its group 0; None: memory, which is faster.

    Attributes:
        position: Number of replayed records of source topics.
        each_batch: Whether the state is in a store; a batch is then committed when the next one is requested.
        events: Number of events among them; the next event has the number `events` + 1.
        state: The state in memory; empty with a store.
    """

    def __init__(
        self,
        settings: Settings,
        engine: FeatureEngine | None = None,
        *,
        pipeline: Pipeline | None = None,
        store: Store | None = None,
    ) -> None:
        self.engine = engine or build_engine(settings)
        self.clock = SettableClock()
        self.duplicates = DuplicateCache()
        base = pipeline or build_pipeline(settings, self.engine, self.duplicates, self.clock, Metrics(CollectorRegistry()))
        outputs = replace(base.outputs, clock=self.clock, scored_at_ingest=True)
        self.pipeline = replace(base, store=store or self.duplicates, outputs=outputs)
        self.state = MemoryState(self.engine)
        self.position = self.events = 0
        self.each_batch = store is not None
        self._loop = asyncio.new_event_loop()
        self._epoch = "replay"
        if store is not None:
            self._loop.run_until_complete(self.pipeline.learn_layouts())
            claim = self._loop.run_until_complete(store.claim(_GROUP, "replay"))
            self._epoch, self.position = claim.epoch, claim.fronts.get(_LOG, 0)

    def close(self) -> None:
        """End the model's thread, and disconnect from the store."""
        model_thread = self.pipeline.model_thread
        if isinstance(model_thread, ThreadPoolExecutor):
            model_thread.shutdown()
        self._loop.run_until_complete(self.pipeline.store.close())
        self._loop.close()

    def load(self, path: Path) -> None:
        """Load the initial state from a file; see `load_state`.

        Raises:
            ConfigError: This replay keeps its state in a store.
        """
        if self.each_batch:
            raise ConfigError("a replay that begins with a snapshot keeps its state in memory: leave out --store")
        self.events = load_state([path], self.engine, dict.fromkeys(self.state.entities(), self.state))

    def save(self, folder: Path, name: str) -> list[str]:
        """Write the state and the cached answers to a file, without the state of a store."""
        file = f"{name}.bin"
        save_state(folder / file, self.engine, [] if self.each_batch else [self.state], self.events, self.duplicates)
        return [file]

    def restore(self, position: int, paths: Sequence[Path]) -> None:
        """Restore the replay to the point of `save`."""
        self.events = load_state(paths, self.engine, dict.fromkeys(self.state.entities(), self.state))
        load_answers(paths, self.duplicates)
        self.position = position

    def batches(self, chunks: Iterable[LogChunk]) -> Iterator[ReplayBatch]:
        """Replay chunks in canonical order (`log_source.chunks_of`) from `position` on, one batch per chunk."""
        for chunk in chunks:
            decoded = self.prepare(chunk)
            if self.each_batch:
                yield from self._through_store(chunk, decoded)
            else:
                yield self.answer(chunk, decoded, self.fold(decoded))

    def prepare(self, chunk: LogChunk) -> DecodedBatch:
        """Decode the next chunk; leaves the state unchanged."""
        span = OffsetSpan(_GROUP, self._epoch, _LOG, self.position, self.position + len(chunk.records))
        return self.pipeline.prepare([span], ((record.topic, record) for record in chunk.records), group=_GROUP)

    def fold(self, decoded: DecodedBatch) -> FoldResult | None:
        """Read the features of the next chunk's events and update the state; None for a chunk without events."""
        if decoded.columns is None:
            return None
        return self.state.fold(decoded.columns, self.events + 1 + np.arange(len(decoded.columns), dtype=np.int64))

    def answer(self, chunk: LogChunk, decoded: DecodedBatch, folded: FoldResult | None) -> ReplayBatch:
        """Score the next chunk and build its messages; its events were folded under their numbers in the log, from 1."""
        first = self.position
        if chunk.records:
            self.clock.set_ms(max(record.timestamp for record in chunk.records))
            self.duplicates.forget(chunk.records[0].time_ms)
        outboxes, scored = self._loop.run_until_complete(self.pipeline.score_folded(decoded, folded, self.events + 1))
        outbox = outboxes[_GROUP]
        if chunk.records:
            self.duplicates.add(self.events + 1, chunk.records[-1].time_ms, outbox)
        self.position += len(chunk.records)
        self.events += len(decoded.events)
        return ReplayBatch(first, self.position, decoded, scored, outbox.topics, chunk.labels)

    def _through_store(self, chunk: LogChunk, decoded: DecodedBatch) -> Iterator[ReplayBatch]:
        """Yield a batch, and commit it when the next one is requested: by then the outputs hold it."""
        first = self.position
        if not chunk.records:  # labels alone
            yield ReplayBatch(first, first, decoded, None, {}, chunk.labels)
            return
        self.clock.set_ms(max(record.timestamp for record in chunk.records))
        if decoded.columns is not None:
            decoded = replace(decoded, rows=self.engine.rows(decoded.columns))
        scored = self._loop.run_until_complete(self.pipeline.score(decoded))
        [step], outbox = scored.steps, scored.outboxes[_GROUP]
        step = replace(step, published=self.duplicates.forget(chunk.records[0].time_ms))
        self.duplicates.add(step.after + 1, chunk.records[-1].time_ms, outbox)
        self.position, self.events = first + len(chunk.records), self.events + len(decoded.events)
        yield ReplayBatch(first, self.position, decoded, scored.scored, outbox.topics, chunk.labels)
        [result] = self._loop.run_until_complete(self.pipeline.store.commit([step]))
        if result.status is not CommitStatus.APPLIED:
            raise ConfigError(
                f"the replay's own state refused its step ({result.status.value}: {result.detail}): something else writes under "
                "its prefix. Give this replay one that nothing else uses (--prefix), and start it again"
            )
