"""Canonical replay: a log in its canonical order through the live way of one event, with a state of its own.

Everything is one partition group: an event sees all earlier events of its entities, whatever partition they came from, and no
state is a replica. Answers say that they were decided when their record came (the virtual clock). The result is the same for
every batch size, down to the bytes: nothing that is answered depends on where batches are cut.

The state is kept unpacked in memory (`MemoryState`), or in any store by choice; the fold, the model, the decisions and the bytes
of the answers are the worker's in both cases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
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
from stream_app.replay.duplicate_cache import DuplicateCache
from stream_app.replay.memory_state import MemoryState
from stream_app.replay.parallel.state_shards import load_kept, load_state, save_state
from stream_app.store.port import CommitStatus, Store
from stream_app.wiring import build_engine, build_pipeline

__all__ = ["CanonicalReplay", "ReplayBatch"]

_GROUP: Final = 0
_LOG: Final = "log"  # the one topic of a canonical replay's positions: what is applied is a prefix of the log


@dataclass(frozen=True, slots=True)
class ReplayBatch:
    """A replayed batch.

    Attributes:
        first: Position in the log (of records of source topics, from 0) of the batch's first record.
        end: The position behind its last.
        prepared: Its events in canonical order, their coordinates and columns; and the records that are no events.
        judged: What became of the events: features, the model's answers, decisions; None where there was no event.
        messages: What live publishes for them, by topic.
        labels: What became known in between, in order.
    """

    first: int
    end: int
    prepared: DecodedBatch
    judged: ScoredBatch | None
    messages: Mapping[str, Messages]
    labels: list[Label]


class CanonicalReplay:
    """One replay: its state, and the way of one event over it. Use it as a context, or `close` it.

    Args:
        settings: What a worker would be started with: model, features, the key of the identities.
        engine: The feature engine; None: the settings'.
        pipeline: Replaces parts of the pipeline (a ranker of one's own); None: as wiring builds it.
        store: Keeps the state, in its group 0; None: memory, which is faster.

    Attributes:
        position: So many records of source topics were replayed.
        events: So many of them were events: the next one's number is one more.
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
        self.kept = DuplicateCache()
        built = pipeline or build_pipeline(settings, self.engine, self.kept, self.clock, Metrics(CollectorRegistry()))
        outputs = replace(built.outputs, clock=self.clock, scored_at_ingest=True)
        self.pipeline = replace(built, store=store or self.kept, outputs=outputs)
        self.state = MemoryState(self.engine)
        self.position = self.events = 0
        self._in_store = store is not None
        self._loop = asyncio.new_event_loop()
        self._epoch = "replay"
        if store is not None:
            self._loop.run_until_complete(self.pipeline.learn_layouts())
            claim = self._loop.run_until_complete(store.claim(_GROUP, "replay"))
            self._epoch, self.position = claim.epoch, claim.fronts.get(_LOG, 0)

    def __enter__(self) -> CanonicalReplay:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End the model's thread, and disconnect from the store."""
        model_thread = self.pipeline.model_thread
        if isinstance(model_thread, ThreadPoolExecutor):
            model_thread.shutdown()
        self._loop.run_until_complete(self.pipeline.store.close())
        self._loop.close()

    def load(self, path: Path) -> None:
        """Begin with the state of a file. Replicas that several groups hold of an entity become one.

        Events are numbered behind the commits of that state: what it says of the past is then never taken for this replay's.

        Raises:
            InputFileError: The file is damaged.
            ContractError: The file describes state of another release.
            ConfigError: This replay keeps its state in a store.
        """
        if self._in_store:
            raise ConfigError("a replay that begins with a snapshot keeps its state in memory: leave out --store")
        self.events = load_state([path], self.engine, dict.fromkeys(self.state.entities(), self.state))

    @property
    def at_rest(self) -> bool:
        """Always: a batch is given out as soon as it is folded."""
        return True

    @property
    def each_batch(self) -> bool:
        """Whether the state is in a store: a batch is committed there when the next one is asked for."""
        return self._in_store

    def save(self, folder: Path, name: str) -> list[str]:
        """Write the state (of a store only which answers may be asked for again) into a file; see `checkpoint.Resumable`."""
        file = f"{name}.bin"
        save_state(folder / file, self.engine, [] if self._in_store else [self.state], self.events, self.kept)
        return [file]

    def restore(self, position: int, paths: Sequence[Path]) -> None:
        """Be where `save` was called."""
        self.events = load_state(paths, self.engine, dict.fromkeys(self.state.entities(), self.state))
        load_kept(paths, self.kept)
        self.position = position

    def batches(self, chunks: Iterable[LogChunk]) -> Iterator[ReplayBatch]:
        """Replay chunks of a log, each as one batch; whatever the chunks' sizes, the same comes out.

        Args:
            chunks: In canonical order (`sources.chunks_of`), going on where the last call stopped.
        """
        for chunk in chunks:
            prepared = self.prepare(chunk)
            if self._in_store:
                yield from self._through_store(chunk, prepared)
            else:
                yield self.answer(chunk, prepared, self.fold(prepared))

    def prepare(self, chunk: LogChunk) -> DecodedBatch:
        """Decode the next chunk; changes nothing."""
        span = OffsetSpan(_GROUP, self._epoch, _LOG, self.position, self.position + len(chunk.records))
        return self.pipeline.prepare([span], ((record.topic, record) for record in chunk.records), group=_GROUP)

    def fold(self, prepared: DecodedBatch) -> FoldResult | None:
        """Read the features of the next chunk's events and add them to the state; None where it has no event."""
        if prepared.columns is None:
            return None
        return self.state.fold(prepared.columns, self.events + 1 + np.arange(len(prepared.columns), dtype=np.int64))

    def answer(self, chunk: LogChunk, prepared: DecodedBatch, folded: FoldResult | None) -> ReplayBatch:
        """Answer the next chunk, whose events were folded under their running numbers, from 1."""
        first = self.position
        if chunk.records:
            self.clock.set_ms(max(record.timestamp for record in chunk.records))
            self.kept.forget(chunk.records[0].time_ms)
        outboxes, judged = self._loop.run_until_complete(self.pipeline.score_folded(prepared, folded, self.events + 1))
        outbox = outboxes[_GROUP]
        if chunk.records:
            self.kept.add(self.events + 1, chunk.records[-1].time_ms, outbox)
        self.position += len(chunk.records)
        self.events += len(prepared.events)
        return ReplayBatch(first, self.position, prepared, judged, outbox.topics, chunk.labels)

    def _through_store(self, chunk: LogChunk, prepared: DecodedBatch) -> Iterator[ReplayBatch]:
        """Give out a batch, and commit it when the next one is asked for: then it has been written down."""
        first = self.position
        if not chunk.records:  # labels alone
            yield ReplayBatch(first, first, prepared, None, {}, chunk.labels)
            return
        self.clock.set_ms(max(record.timestamp for record in chunk.records))
        if prepared.columns is not None:
            prepared = replace(prepared, rows=self.engine.rows(prepared.columns))
        scored = self._loop.run_until_complete(self.pipeline.score(prepared))
        [step], outbox = scored.steps, scored.outboxes[_GROUP]
        step = replace(step, published=self.kept.forget(chunk.records[0].time_ms))
        self.kept.add(step.after + 1, chunk.records[-1].time_ms, outbox)
        self.position, self.events = first + len(chunk.records), self.events + len(prepared.events)
        yield ReplayBatch(first, self.position, prepared, scored.scored, outbox.topics, chunk.labels)
        [result] = self._loop.run_until_complete(self.pipeline.store.commit([step]))
        if result.status is not CommitStatus.APPLIED:
            raise ConfigError(
                f"the replay's own state refused its step ({result.status.value}: {result.detail}): something else writes under "
                "its prefix. Give this replay one that nothing else uses (--prefix), and start it again"
            )
