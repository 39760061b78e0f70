"""Runs the worker's own pipeline over a store in memory, batch by batch, and keeps all messages."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from numpy.typing import NDArray

from stream_app.batch import OffsetSpan
from stream_app.clock import SettableClock
from stream_app.codec.outbox import OutboxBatch, decode_outbox
from stream_app.events import Event
from stream_app.inference.ranker import PriorRanker
from stream_app.pipeline import Pipeline
from stream_app.ranked import RankedBatch
from stream_app.store.memory import MemoryStore
from stream_app.store.port import CommitStatus
from tests.scoring import Record, record_of, scoring_engine, scoring_pipeline, topic_of

__all__ = ["GROUPS", "SHARED", "USERS", "NotingRanker", "Run", "log_of", "new_run", "spans_of"]

GROUPS = 3
USERS = [f"u-{number}" for number in range(9)]
SHARED = frozenset(kind.name for kind in scoring_engine().kinds if kind.shared)


class NotingRanker(PriorRanker):
    """Records the tensors it scores, and the threads that call it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Mapping[str, NDArray[Any]]] = []
        self.threads: set[int] = set()

    def rank(self, inputs: Mapping[str, NDArray[Any]], users: Sequence[bytes]) -> RankedBatch:
        self.threads.add(threading.get_ident())
        self.seen.append({name: value.copy() for name, value in inputs.items()})
        return super().rank(inputs, users)


@dataclass
class Run:
    """A pipeline over a store of its own, and what came of it."""

    pipeline: Pipeline
    store: MemoryStore
    ranker: NotingRanker
    outboxes: list[OutboxBatch] = field(default_factory=list)
    features: dict[str, Sequence[bytes]] = field(default_factory=dict)  # event id -> the bytes of its tensors

    async def batch(self, records: Sequence[Record]) -> None:
        """Score and commit one batch, as a worker that owns all groups."""
        spans = spans_of(records, {group: (await self.store.claim(group, "w")).epoch for group in range(GROUPS)})
        prepared = self.pipeline.prepare(spans, [(record.topic, record) for record in records])
        scored = len(self.ranker.seen)
        scored_batch = await self.pipeline.score(prepared)
        for result in await self.store.commit(scored_batch.steps):
            assert result.status is CommitStatus.APPLIED, result.detail
        for step in scored_batch.steps:
            self.outboxes.append(decode_outbox(step.payload))
            assert scored_batch.outboxes[step.group] == self.outboxes[-1], "what is published is what was committed"
        if len(self.ranker.seen) > scored:
            inputs = self.ranker.seen[-1]
            for row, event in enumerate(prepared.events):
                self.features[event.event_id] = [inputs[name][row].tobytes() for name in sorted(inputs)]

    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        """All that would be published, with its topic."""
        return [
            (topic, msgspec.json.decode(value))
            for outbox in self.outboxes
            for topic, messages in outbox.topics.items()
            for value in messages.values
        ]

    def state(self) -> dict[tuple[int, str, bytes], Any]:
        """Every entity of every group, but for the numbers of the commits, which depend on how a log is cut."""
        entities: dict[tuple[int, str, bytes], Any] = {}
        for place, blob in self.store.state().items():
            entities[place] = entity = scoring_engine().describe(place[1], blob)
            sequence: Any = entity.get("sequence", ())
            for interaction in sequence:
                del interaction["commit"]
        return entities


def new_run(**parts: Any) -> Run:
    store, ranker = MemoryStore(GROUPS, SHARED), NotingRanker()
    return Run(scoring_pipeline(store, SettableClock(77), ranker=ranker, **parts), store, ranker)


def spans_of(records: Sequence[Record], epochs: Mapping[int, str]) -> list[OffsetSpan]:
    offsets: dict[tuple[str, int], list[int]] = defaultdict(list)
    for record in records:
        offsets[record.topic, record.partition].append(record.offset)
    return [
        OffsetSpan(group, epochs[group], topic, min(numbers), max(numbers) + 1) for (topic, group), numbers in offsets.items()
    ]


def log_of(events: Sequence[Event]) -> list[Record]:
    """The events' records, each user in one partition, in order of time."""
    ends: Counter[tuple[str, int]] = Counter()
    records = []
    for event in sorted(events, key=lambda event: event.event_time_ms):
        place = (topic_of(event), int(event.user.removeprefix("u-")) % GROUPS)
        records.append(record_of(event, place[1], ends[place]))
        ends[place] += 1
    return records
