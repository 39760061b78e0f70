"""A partition log, a Redis prefix and workers on them, all in one process: faults happen exactly where a test puts them.

The test plays Kafka: `World.committed` are the group's offsets, and the test passes chunks to a worker. Redis, store,
handler, tracker and pipeline are the real ones. `World(fence=False)` takes the fence out of the store and shows what it is
good for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from stream_app.agents.handler import ScoringHandler
from stream_app.agents.ownership import OwnershipTracker
from stream_app.agents.ports import Chunk, TopicPartition
from stream_app.agents.publisher import Publisher
from stream_app.codec.outbox import Messages
from stream_app.errors import ContractError, FencedError, StoreRolledBackError
from stream_app.events import SOURCE_TOPICS, Event
from stream_app.metrics import Metrics
from stream_app.store.redis_store import RedisStore
from tests.chaos.oracle import AnswerLog, check_answers, check_journal, check_states
from tests.chaos.redis_past import Snapshot, restore, snapshot
from tests.chaos.unfenced import UnfencedStore
from tests.scoring import SETTINGS, Record, TickingClock, make_events, record_of, scoring_engine, scoring_pipeline, topic_of

__all__ = ["FreeBarrier", "Killed", "Worker", "World"]

GROUPS = 3
SHARED = frozenset(kind.name for kind in scoring_engine().kinds if kind.shared)
Range = tuple[str, int, int, int]  # topic, partition, [from, to)


class Killed(BaseException):
    """The process is gone: nothing that catches errors sees it."""


class FreeBarrier:
    """The barrier of a batch that waits for no other."""

    async def wait_previous_committed(self) -> None:
        """Go on at once."""

    def mark_committed(self) -> None:
        """Nobody waits."""


class CapturingPublisher(Publisher):
    """Keeps what would go to Kafka."""

    def __init__(self, log: AnswerLog) -> None:
        super().__init__("", topic_prefix="", client_id="")
        self._log = log

    async def start(self) -> None:
        """Nothing to connect."""

    async def publish(self, groups: Iterable[tuple[int, Mapping[str, Messages]]]) -> dict[str, int]:
        """Append every message to the log."""
        counts: dict[str, int] = {}
        for group, topics in groups:
            for topic, messages in topics.items():
                counts[topic] = len(messages.values)
                self._log.extend((topic, group, key, value) for key, value in zip(messages.keys, messages.values, strict=True))
        return counts


class Worker:
    """One worker process's handler, fed by hand. Parts may be put in place of `pipeline`'s (a ranker that waits, ...)."""

    def __init__(self, world: World, **parts: Any) -> None:
        self._world = world
        self.store: Any = world.open_store()
        self.publisher: Any = CapturingPublisher(world.published)
        self.pipeline = scoring_pipeline(self.store, world.clock, **parts)
        self.handler = ScoringHandler(
            pipeline=self.pipeline,
            ownership=OwnershipTracker(GROUPS),
            publisher=self.publisher,
            metrics=Metrics(CollectorRegistry()),
            topic_prefix="",
            owner=f"worker-{len(world.workers)}",
        )
        self.assignments = 0
        world.workers.append(self)

    async def claim(self, *groups: int) -> Mapping[TopicPartition, int]:
        """Be assigned these groups (none: all); returns where to read on, as the real consumer chooses it."""
        self.assignments += 1
        places = frozenset(TopicPartition(topic, group) for topic in SOURCE_TOPICS for group in groups or range(GROUPS))
        fronts = await self.handler.on_assigned(places, self.assignments)
        await self.handler.wait_republished()
        committed = self._world.committed
        if not self._world.fence:  # without a position in the store, Kafka's is all there is
            return {place: committed[place] for place in places}
        return {place: min(fronts[place], committed.get(place, fronts[place])) for place in places}

    async def hand_over(self) -> None:
        """Lose everything in good order."""
        places = frozenset(TopicPartition(topic, group) for topic in SOURCE_TOPICS for group in range(GROUPS))
        await self.handler.on_revoked(places, self.assignments)

    async def deliver(self, *ranges: Range, commit_offsets: bool = True) -> None:
        """Be given one batch; afterwards its offsets are committed to Kafka, unless that is what fails."""
        chunks = [Chunk(t, p, start, end, self.assignments, self._world.log[t, p][start:end]) for t, p, start, end in ranges]
        await self.handler.handle(chunks, FreeBarrier())
        if commit_offsets:
            for chunk in chunks:
                self._world.committed[TopicPartition(chunk.topic, chunk.partition)] = chunk.end


class World:
    """Events of a few users, who share devices over all partitions, in three topics of `GROUPS` partitions."""

    def __init__(self, url: str, prefix: str, *, fence: bool, count: int = 120) -> None:
        self.fence = fence
        self.clock = TickingClock()
        self.workers: list[Worker] = []
        self.published: AnswerLog = []
        self.committed: dict[TopicPartition, int] = defaultdict(int)
        self.log: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self.events: dict[str, Event] = {}  # by the id of their answers
        self.decided_again = False
        self._url, self._prefix = url, prefix
        self._reader = self.open_store()
        users = [f"u-{number}" for number in range(8)]
        for event in make_events(count, users=users, devices=["d-1", "d-2", "d-3"]):
            group, topic = users.index(event.user) % GROUPS, topic_of(event)
            offset = len(self.log[topic, group])
            self.log[topic, group].append(record_of(event, group, offset))
            self.events[f"{topic}-{group}-{offset}"] = event

    def open_store(self) -> RedisStore:
        """A store of one worker."""
        kind = RedisStore if self.fence else UnfencedStore
        return kind(self._url, prefix=self._prefix, groups=GROUPS, shared_kinds=SHARED)

    def batch(self, number: int, *, size: int = 3) -> list[Range]:
        """The `number`-th batch: the next `size` offsets of each topic and partition."""
        start = number * size
        return [(t, p, start, min(start + size, len(log))) for (t, p), log in sorted(self.log.items()) if start < len(log)]

    def batch_of(self, topic: str, number: int) -> list[Range]:
        """The part of the `number`-th batch that is of one topic."""
        return [part for part in self.batch(number) if part[0] == topic]

    async def run_to_end(self, *, size: int = 5) -> Worker:
        """A worker reads on to the end of the log, and is started again where the store tells it so."""
        for _ in range(3):
            worker = Worker(self)
            positions = dict(await worker.claim())
            try:
                while ranges := self._next_ranges(positions, size):
                    await worker.deliver(*ranges)
                    positions.update({TopicPartition(topic, group): end for topic, group, _, end in ranges})
            except (StoreRolledBackError, FencedError, ContractError):
                continue
            return worker
        raise AssertionError("three workers in a row gave up")

    def _next_ranges(self, positions: Mapping[TopicPartition, int], size: int) -> list[Range]:
        starts = [
            (topic, group, positions[TopicPartition(topic, group)], log) for (topic, group), log in sorted(self.log.items())
        ]
        return [(topic, group, start, min(start + size, len(log))) for topic, group, start, log in starts if start < len(log)]

    async def check(self) -> None:
        """Assert the guarantee: state counts every event once, every answer is published, repeats are the same to the byte."""
        owned = ((event, int(answer.split("-")[1])) for answer, event in self.events.items())
        key = SETTINGS.privacy.id_key.get_secret_value().encode()
        await check_states(self._reader, scoring_engine(), key, owned, GROUPS)
        check_answers(self.events, self.published, decided_again=self.decided_again)
        if not self.decided_again:
            check_journal({place: len(log) for place, log in self.log.items()}, self.published)

    def snapshot(self) -> Snapshot:
        """What Redis holds now."""
        return snapshot(self._url, self._prefix)

    def restore(self, taken: Snapshot) -> None:
        """Redis goes back to `taken`; what it forgets will be decided a second time."""
        restore(self._url, self._prefix, taken)
        self.decided_again = True

    async def close(self) -> None:
        """Release what the workers hold."""
        await self._reader.close()
        for worker in self.workers:
            worker.pipeline.model_thread.shutdown()
            await worker.handler.close()
