"""Batches form from waiting chunks, run side by side, commit and retire in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stream_app.agents.batching import BatchScheduler, Delivery
from stream_app.agents.ports import Chunk
from stream_app.errors import AbandonedError, FencedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from stream_app.agents.ports import CommitBarrier


def make_chunk(start: int, events: int, *, more: bool = False, size_bytes: int = 0, group: int = 0) -> Chunk:
    records: list[Any] = [None] * events
    return Chunk("clicks", group, start, start + max(events, 1), 1, records, more=more, size_bytes=size_bytes)


class RecordingHandler:
    """Holds each batch until it is let go, and remembers what happened in which order."""

    def __init__(self) -> None:
        self.begun: list[list[int]] = []  # starts of the chunks of each batch
        self.gates: dict[int, asyncio.Event] = {}  # by first start: when to go on to the commit
        self.errors: dict[int, Exception] = {}  # by first start: raised in place of the commit
        self.committed: list[int] = []

    async def handle(self, batch: Sequence[Chunk], barrier: CommitBarrier) -> None:
        first = batch[0].start
        self.begun.append([chunk.start for chunk in batch])
        if first in self.gates:
            await self.gates[first].wait()
        if first in self.errors:
            raise self.errors[first]
        await barrier.wait_previous_committed()
        self.committed.append(first)
        barrier.mark_committed()


class Bench:
    """A scheduler with its handler and the list of acknowledged starts."""

    def __init__(self, *, batch_events: int = 10, in_flight: int = 2) -> None:
        self.handler = RecordingHandler()
        self.acknowledged: list[int] = []
        self.taken: list[int] = []
        self.scheduler: BatchScheduler = BatchScheduler(
            1,
            self.handler,
            acknowledge=self.acknowledge,
            on_dequeue=lambda chunk: self.taken.append(chunk.start),
            batch_events=batch_events,
            in_flight=in_flight,
        )

    async def acknowledge(self, delivery: Delivery) -> None:
        self.acknowledged.append(delivery.chunk.start)

    def put(self, start: int, events: int, *, more: bool = False) -> None:
        self.scheduler.put(Delivery(make_chunk(start, events, more=more)))

    def hold(self, *firsts: int) -> None:
        for first in firsts:
            self.handler.gates[first] = asyncio.Event()

    def let_go(self, first: int) -> None:
        self.handler.gates[first].set()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 10))


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_bytes_bound_a_batch_as_records_do() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=10, in_flight=1)
        for start, size_bytes in enumerate((3 * 4096, 7 * 4096, 4096, 50 * 4096, 4095)):
            bench.scheduler.put(Delivery(make_chunk(start, 1, size_bytes=size_bytes)))
        running = asyncio.create_task(bench.scheduler.run())
        await settle()
        bench.scheduler.close()
        await running
        assert bench.handler.begun == [[0, 1], [2], [3], [4]]

    run(scenario)


def test_a_backlog_is_taken_group_by_group_and_each_gets_its_turn() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=10, in_flight=1)
        for start, group in ((0, 0), (5, 0), (10, 0), (100, 1), (105, 1), (200, 2)):
            bench.scheduler.put(Delivery(make_chunk(start, 5, group=group)))
        running = asyncio.create_task(bench.scheduler.run())
        await settle()
        assert bench.handler.begun == [[0, 5], [100, 105], [200, 10]]
        assert bench.acknowledged == [0, 5, 100, 105, 200, 10]
        bench.scheduler.close()
        await running

    run(scenario)


def test_while_a_batch_is_in_flight_the_next_ones_share_the_waiting_groups() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=100, in_flight=3)
        bench.hold(0)
        for start, group in ((0, 0), (100, 1), (200, 2)):
            bench.scheduler.put(Delivery(make_chunk(start, 5, group=group)))
        running = asyncio.create_task(bench.scheduler.run())
        await settle()
        assert bench.handler.begun == [[0, 100, 200]]  # nothing was in flight: all that waited
        for start, group in ((5, 0), (105, 1), (205, 2)):
            bench.scheduler.put(Delivery(make_chunk(start, 5, group=group)))
        await settle()
        assert bench.handler.begun[1:] == [[5, 105], [205]]  # half of three, rounded up; then half of one
        bench.let_go(0)
        await settle()
        assert sorted(bench.acknowledged) == [0, 5, 100, 105, 200, 205]
        bench.scheduler.close()
        await running

    run(scenario)


def test_a_batch_waits_for_commits_of_its_own_groups_only_and_is_acknowledged_in_order() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=5, in_flight=3)
        bench.hold(0)
        for start, group in ((0, 0), (100, 1), (5, 0)):
            bench.scheduler.put(Delivery(make_chunk(start, 5, group=group)))
        running = asyncio.create_task(bench.scheduler.run())
        await settle()
        assert bench.handler.committed == [100]  # group 0 is held, and its second batch waits for the first
        assert bench.acknowledged == []
        bench.let_go(0)
        await settle()
        assert bench.handler.committed == [100, 0, 5]
        assert bench.acknowledged == [0, 100, 5]
        bench.scheduler.close()
        await running

    run(scenario)


def test_a_batch_that_fails_takes_the_later_ones_of_its_group_with_it() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=5, in_flight=3)
        bench.hold(0)
        bench.handler.errors[0] = FencedError("on purpose")
        for start, group in ((0, 0), (100, 1), (5, 0)):
            bench.scheduler.put(Delivery(make_chunk(start, 5, group=group)))
        running = asyncio.create_task(bench.scheduler.run())
        await settle()
        bench.let_go(0)
        with pytest.raises(FencedError):
            await running
        assert bench.handler.committed == [100]
        assert bench.acknowledged == []  # published again by whoever claims group 1 next, or known as applied

    run(scenario)


def test_a_batch_is_whatever_waits_up_to_the_limit() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=10, in_flight=1)
        for start, events in ((0, 4), (4, 4), (8, 4), (12, 4)):
            bench.put(start, events)
        running = asyncio.create_task(bench.scheduler.run())
        await settle()
        assert bench.handler.begun == [[0, 4], [8, 12]]
        assert bench.acknowledged == bench.taken == [0, 4, 8, 12]
        bench.scheduler.close()
        await running

    run(scenario)


def test_a_chunk_larger_than_the_limit_is_a_batch_of_its_own() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=10, in_flight=1)
        bench.put(0, 25)
        bench.put(25, 1)
        running = asyncio.create_task(bench.scheduler.run())
        await settle()
        assert bench.handler.begun == [[0], [25]]
        bench.scheduler.close()
        await running

    run(scenario)


def test_a_batch_waits_for_the_rest_of_its_fetch_but_not_beyond_the_limit() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=10, in_flight=1)
        running = asyncio.create_task(bench.scheduler.run())
        bench.put(0, 3, more=True)
        await settle()
        assert bench.handler.begun == []
        bench.put(3, 3)
        await settle()
        assert bench.handler.begun == [[0, 3]]
        bench.put(6, 6, more=True)
        bench.put(12, 6, more=True)
        await settle()
        assert bench.handler.begun[1] == [6]
        bench.scheduler.close()
        await running

    run(scenario)


def test_later_batches_run_meanwhile_but_commit_and_retire_in_order() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=1, in_flight=2)
        bench.hold(0)
        for start in range(4):
            bench.put(start, 1)
        running = asyncio.create_task(bench.scheduler.run())
        await settle()
        assert bench.handler.begun == [[0], [1]]  # two in flight, no third
        assert bench.handler.committed == bench.acknowledged == []
        bench.let_go(0)
        await settle()
        assert bench.handler.committed == bench.acknowledged == [0, 1, 2, 3]
        bench.scheduler.close()
        await running

    run(scenario)


def test_a_batch_that_fails_before_its_commit_takes_the_later_ones_with_it() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=1, in_flight=3)
        bench.hold(1)
        bench.handler.errors[1] = RuntimeError("no")
        for start in range(3):
            bench.put(start, 1)
        running = asyncio.create_task(bench.scheduler.run())
        await settle()
        bench.let_go(1)
        with pytest.raises(RuntimeError, match="no"):
            await running
        assert bench.handler.committed == bench.acknowledged == [0]

    run(scenario)


def test_a_batch_that_waits_for_a_failed_one_is_told_so() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=1, in_flight=2)
        seen: list[BaseException] = []

        class Telling(RecordingHandler):
            async def handle(self, batch: Sequence[Chunk], barrier: CommitBarrier) -> None:
                try:
                    await super().handle(batch, barrier)
                except AbandonedError as error:
                    seen.append(error)
                    raise

        bench.handler = bench.scheduler._handler = Telling()
        bench.hold(0)
        bench.handler.errors[0] = FencedError("gone")
        bench.put(0, 1)
        bench.put(1, 1)
        running = asyncio.create_task(bench.scheduler.run())
        await settle()
        bench.let_go(0)
        with pytest.raises(FencedError):
            await running
        await settle()
        assert len(seen) == 1

    run(scenario)


def test_a_drain_ends_when_what_is_in_flight_has_retired_and_begins_nothing_more() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=1, in_flight=1)
        bench.hold(0)
        bench.put(0, 1)
        bench.put(1, 1)
        running = asyncio.create_task(bench.scheduler.run())
        await settle()
        drain = asyncio.create_task(bench.scheduler.drain(5))
        await settle()
        assert not drain.done()
        bench.let_go(0)
        assert await drain
        await running
        assert bench.acknowledged == [0]
        bench.put(2, 1)  # ignored: the scheduler is closed
        assert bench.handler.begun == [[0]]

    run(scenario)


def test_a_drain_gives_up_in_time_and_the_batch_may_still_finish() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=1, in_flight=1)
        bench.hold(0)
        bench.put(0, 1)
        running = asyncio.create_task(bench.scheduler.run())
        await settle()
        assert not await bench.scheduler.drain(0.01)
        bench.let_go(0)
        await running
        assert bench.handler.committed == [0]

    run(scenario)


def test_chunks_without_records_are_acknowledged_too() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=1, in_flight=1)
        for start in range(3):
            bench.put(start, 0)
        running = asyncio.create_task(bench.scheduler.run())
        await settle()
        assert bench.handler.begun == [[0, 1, 2]]
        assert bench.acknowledged == [0, 1, 2]
        bench.scheduler.close()
        await running

    run(scenario)
