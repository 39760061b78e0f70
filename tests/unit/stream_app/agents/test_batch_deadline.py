"""Batches with a deadline, in made-up time: the loop's clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stream_app.agents.batching import BatchScheduler, Delivery
from stream_app.agents.ports import Chunk, CommitBarrier

DEADLINE_S = 0.020
START_S = 1_000.0
TICK_S = 1e-6  # what the loop's clock may be off


class JumpingSelector(selectors.DefaultSelector):
    """Waits for nothing: the time that it was to wait has passed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START_S

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += max(0.0, timeout or 0.0)
        return super().select(0)


def in_made_up_time(scenario: Coroutine[Any, Any, None]) -> None:
    selector = JumpingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(scenario)


class Bench:
    """A scheduler that notes when each batch began, and what was in it."""

    def __init__(self, *, batch_events: int = 10, in_flight: int = 2, busy_s: float = 0.0) -> None:
        self.begun: list[tuple[float, list[int]]] = []
        self.acknowledged: list[int] = []
        self.queued: dict[int, float] = {}
        self._busy_s = busy_s
        self.scheduler: BatchScheduler = BatchScheduler(
            1,
            self,
            acknowledge=self._acknowledge,
            on_dequeue=lambda _: None,
            batch_events=batch_events,
            in_flight=in_flight,
            deadline_s=DEADLINE_S,
        )

    async def handle(self, batch: Sequence[Chunk], barrier: CommitBarrier) -> None:
        self.begun.append((asyncio.get_running_loop().time(), [chunk.start for chunk in batch]))
        await asyncio.sleep(self._busy_s)
        await barrier.wait_previous_committed()
        barrier.mark_committed()

    async def _acknowledge(self, delivery: Delivery) -> None:
        self.acknowledged.append(delivery.chunk.start)

    def put(self, start: int, events: int, *, group: int = 0, more: bool = False) -> None:
        self.queued[start] = asyncio.get_running_loop().time()
        records: list[Any] = [None] * events
        self.scheduler.put(Delivery(Chunk("clicks", group, start, start + events, 1, records, more=more)))

    def after_s(self) -> list[tuple[float, list[int]]]:
        """When each batch began, in whole microseconds after the start, and what was in it."""
        return [(round(began - START_S, 6), starts) for began, starts in self.begun]

    async def ran(self, arrivals: Coroutine[Any, Any, None]) -> None:
        """Run the scheduler until all that arrives is acknowledged."""
        running = asyncio.create_task(self.scheduler.run())
        await arrivals
        for _ in range(10_000):
            if len(self.acknowledged) == len(self.queued):
                break
            await asyncio.sleep(DEADLINE_S)
        self.scheduler.close()
        await running


def test_a_batch_closes_when_its_oldest_chunk_has_waited_so_long() -> None:
    async def scenario() -> None:
        bench = Bench()

        async def arrivals() -> None:
            for start in range(3):
                bench.put(start, 1)
                await asyncio.sleep(DEADLINE_S * 0.4)

        await bench.ran(arrivals())
        assert bench.after_s() == [(DEADLINE_S, [0, 1, 2])]

    in_made_up_time(scenario())


def test_a_batch_closes_when_it_is_full_before_that() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=10)

        async def arrivals() -> None:
            bench.put(0, 6)
            bench.put(6, 4)
            bench.put(10, 1)

        await bench.ran(arrivals())
        assert bench.after_s() == [(0.0, [0, 6]), (DEADLINE_S, [10])]

    in_made_up_time(scenario())


def test_what_was_left_of_a_full_batch_keeps_its_own_deadline() -> None:
    async def scenario() -> None:
        bench = Bench(batch_events=10)

        async def arrivals() -> None:
            bench.put(0, 8)
            await asyncio.sleep(DEADLINE_S / 2)
            bench.put(8, 8)  # full, but the two do not fit one batch
            await asyncio.sleep(DEADLINE_S / 4)
            bench.put(16, 1)

        await bench.ran(arrivals())
        assert bench.after_s() == [(DEADLINE_S / 2, [0]), (DEADLINE_S * 1.5, [8, 16])]

    in_made_up_time(scenario())


def test_a_lane_that_closes_while_a_batch_waits_ends_at_once() -> None:
    async def scenario() -> None:
        bench = Bench()
        running = asyncio.create_task(bench.scheduler.run())
        bench.put(0, 1)
        await asyncio.sleep(DEADLINE_S / 2)
        assert await bench.scheduler.drain(1.0)
        await running
        assert bench.begun == []

    in_made_up_time(scenario())


Arrival = tuple[float, int, int, bool]  # pause before it as a part of the deadline, events, group, whether more follows


@given(
    st.lists(st.tuples(st.floats(0, 1.5), st.integers(1, 12), st.integers(0, 2), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([0.0, DEADLINE_S / 3, DEADLINE_S * 2]),
    st.integers(1, 3),
)
def test_nothing_is_lost_and_no_batch_waits_beyond_its_deadline_unless_all_slots_are_taken(
    arrivals: list[Arrival], busy_s: float, in_flight: int
) -> None:
    async def scenario() -> None:
        bench = Bench(in_flight=in_flight, busy_s=busy_s)

        async def arrive() -> None:
            start = 0
            for pause, events, group, more in arrivals:
                await asyncio.sleep(pause * DEADLINE_S)
                bench.put(start, events, group=group, more=more)
                start += events

        await bench.ran(arrive())
        assert sorted(bench.acknowledged) == sorted(bench.queued)
        assert sorted(start for _, starts in bench.begun for start in starts) == sorted(bench.queued)
        for number, (began, starts) in enumerate(bench.begun):
            oldest = min(bench.queued[start] for start in starts)
            # At once for a batch whose turn was held up: when the batch `in_flight` before it began, and was busy.
            held = bench.begun[number - in_flight][0] + busy_s * in_flight if number >= in_flight and busy_s else 0.0
            assert began <= max(oldest + DEADLINE_S, held) + TICK_S * 10

    in_made_up_time(scenario())
