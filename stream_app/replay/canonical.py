"""Canonical replay: a log in its canonical order through the live way of one event, with a state of its own.

Everything is one partition group: an event sees all earlier events of its entities, whatever partition they came from, and no
state is a replica. Answers say that they were decided when their record came (the virtual clock). The result is the same for
every batch size, down to the bytes: nothing that is answered depends on where batches are cut.

The state is kept unpacked in memory (`Resident`), or in any store by choice; the fold, the model, the decisions and the bytes
of the answers are the worker's in both cases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry

from stream_app.clock import SettableClock
from stream_app.codec.outbox import Messages
from stream_app.config import Settings
from stream_app.errors import ConfigError
from stream_app.events import Label
from stream_app.features.blobs import Blobs
from stream_app.features.engine import FeatureEngine, FoldResult
from stream_app.metrics import Metrics
from stream_app.pipeline import Judged, Pipeline, Prepared, Span
from stream_app.replay.answered import KeptAnswers
from stream_app.replay.resident import Resident
from stream_app.replay.sources import Chunk
from stream_app.replay.state_file import read_header, read_state
from stream_app.store.port import CommitStatus, Store
from stream_app.wiring import build_engine, build_pipeline

__all__ = ["CanonicalReplay", "ReplayBatch"]

_GROUP: Final = 0
_MERGED_AT_ONCE: Final = 4_096
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
    prepared: Prepared
    judged: Judged | None
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
        self.kept = KeptAnswers()
        built = pipeline or build_pipeline(settings, self.engine, self.kept, self.clock, Metrics(CollectorRegistry()))
        self.pipeline = replace(built, store=store or self.kept, clock=self.clock, scored_at_ingest=True)
        self.state = Resident(self.engine)
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
        header = read_header(path)
        self.engine.learn_layouts(header.layouts)
        replicas: dict[str, dict[bytes, list[bytes]]] = {}
        for frame in read_state(path):
            if len(header.groups) == 1:
                self.state.load(frame.kind, frame.keys, frame.blobs())
                continue
            held = replicas.setdefault(frame.kind, {})
            for key, blob in zip(frame.keys, frame.blobs(), strict=True):
                held.setdefault(key, []).append(blob)
        for kind, of_kind in replicas.items():
            self._load_merged(kind, of_kind)
        self.events = max((group.commit for group in header.groups.values()), default=0)

    def _load_merged(self, kind: str, replicas: dict[bytes, list[bytes]]) -> None:
        single = [key for key, blobs in replicas.items() if len(blobs) == 1]
        self.state.load(kind, single, Blobs.of([replicas[key][0] for key in single]))
        several = [key for key, blobs in replicas.items() if len(blobs) > 1]
        for first in range(0, len(several), _MERGED_AT_ONCE):
            part = several[first : first + _MERGED_AT_ONCE]
            merged = self.engine.merge(kind, [replicas[key] for key in part])
            self.state.load(kind, part, self.engine.pack(kind, merged.rows))

    def batches(self, chunks: Iterable[Chunk]) -> Iterator[ReplayBatch]:
        """Replay chunks of a log, each as one batch; whatever the chunks' sizes, the same comes out.

        Args:
            chunks: In canonical order (`sources.chunks_of`), going on where the last call stopped.
        """
        for chunk in chunks:
            prepared = self.prepare(chunk)
            if self._in_store:
                yield self._through_store(chunk, prepared)
            else:
                yield self.answer(chunk, prepared, self.fold(prepared))

    def prepare(self, chunk: Chunk) -> Prepared:
        """Decode the next chunk; changes nothing."""
        span = Span(_GROUP, self._epoch, _LOG, self.position, self.position + len(chunk.records))
        return self.pipeline.prepare([span], ((record.topic, record) for record in chunk.records), group=_GROUP)

    def fold(self, prepared: Prepared) -> FoldResult | None:
        """Read the features of the next chunk's events and add them to the state; None where it has no event."""
        if prepared.columns is None:
            return None
        return self.state.fold(prepared.columns, self.events + 1 + np.arange(len(prepared.columns), dtype=np.int64))

    def answer(self, chunk: Chunk, prepared: Prepared, folded: FoldResult | None) -> ReplayBatch:
        """Answer the next chunk, whose events were folded under their running numbers, from 1."""
        first = self.position
        if chunk.records:
            self.clock.set_ms(max(record.timestamp for record in chunk.records))
            self.kept.forget(chunk.records[0].time_ms)
        outboxes, judged = self._loop.run_until_complete(self.pipeline.answer(prepared, folded, self.events + 1))
        outbox = outboxes[_GROUP]
        if chunk.records:
            self.kept.add(self.events + 1, chunk.records[-1].time_ms, outbox)
        self.position += len(chunk.records)
        self.events += len(prepared.events)
        return ReplayBatch(first, self.position, prepared, judged, outbox.topics, chunk.labels)

    def _through_store(self, chunk: Chunk, prepared: Prepared) -> ReplayBatch:
        first, end = self.position, self.position + len(chunk.records)
        if first == end:  # labels alone
            return ReplayBatch(first, end, prepared, None, {}, chunk.labels)
        self.clock.set_ms(max(record.timestamp for record in chunk.records))
        if prepared.columns is not None:
            prepared = replace(prepared, rows=self.engine.rows(prepared.columns))
        scored = self._loop.run_until_complete(self.pipeline.score(prepared))
        [step] = scored.steps
        published = self.kept.forget(chunk.records[0].time_ms)
        [result] = self._loop.run_until_complete(self.pipeline.store.commit([replace(step, published=published)]))
        if result.status is not CommitStatus.APPLIED:
            raise ConfigError(
                f"the replay's own state refused its step ({result.status.value}: {result.detail}): something else writes under "
                "its prefix. Give this replay one that nothing else uses (--prefix), and start it again"
            )
        outbox = scored.outboxes[_GROUP]
        self.kept.add(result.commit, chunk.records[-1].time_ms, outbox)
        self.position, self.events = end, self.events + len(prepared.events)
        return ReplayBatch(first, end, prepared, scored.judged, outbox.topics, chunk.labels)
