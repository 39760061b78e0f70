"""Group commit: all that waits becomes the next batch, several batches run at once, and they are retired in order.

At low rates a batch is small and leaves at once; at high rates batches grow up to the limit and share their fixed
costs. There is no timer: the pace of the handler is the pace of the batches. With a deadline there is one: a batch then closes
when it is full, or when its oldest chunk has waited so long; with a deadline of 0, when the last fetch is in.

A batch waits for the commits of earlier batches of its own groups only: nothing else that it reads depends on them. Under a
backlog a batch is of one group, so that one is in the store while another is in the model.

Invariants: a batch never mixes assignments; chunks of one partition keep their order; batch n + 1 is acknowledged after
batch n; a batch that fails before its commit takes all later batches of its groups with it, and ends the assignment.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Generic, TypeVar

from stream_app.errors import AbandonedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from stream_app.agents.chunks import Chunk
    from stream_app.agents.ports import BatchHandler

__all__ = ["BatchScheduler", "Delivery", "OrderedCommitBarrier"]

log = logging.getLogger(__name__)
EventType = TypeVar("EventType")


class Delivery(Generic[EventType]):
    """A chunk and what acknowledges it."""

    __slots__ = ("chunk", "due", "event")

    def __init__(self, chunk: Chunk, event: EventType) -> None:
        self.chunk = chunk
        self.event = event
        self.due = 0.0  # by the loop's clock: when its batch must close; set as it is queued


class OrderedCommitBarrier:
    """A batch's place in the order of commits (the port `stream_app.agents.ports.Turn`).

    Args:
        previous: The last turns of the batch's groups.
    """

    def __init__(self, previous: Sequence[OrderedCommitBarrier]) -> None:
        self._previous = previous
        self._done = asyncio.Event()
        self._ok = False

    async def wait_previous_committed(self) -> None:
        """Block until the batches before, of the same groups, have committed.

        Raises:
            AbandonedError: One failed before it did.
        """
        for barrier in self._previous:
            await barrier._done.wait()
            if not barrier._ok:
                msg = "a batch before failed before its commit, so this one was given up"
                raise AbandonedError(msg)
        self._previous = ()  # let go of the chain

    def mark_committed(self) -> None:
        """Let the next batch go on."""
        self._ok = True
        self._done.set()

    def finish(self, *, ok: bool) -> None:
        """The handler has returned (ok) or raised: nobody may wait for this turn any longer."""
        self._ok = self._ok or ok
        self._done.set()


class BatchScheduler(Generic[EventType]):
    """The batches of one assignment.

    Args:
        generation: The assignment's number.
        handler: Called once a batch, at most `in_flight` times at once.
        acknowledge: Called for each delivery of a retired batch, in order.
        on_dequeue: Called for each chunk as it leaves the queue of waiting ones.
        batch_events: Most weight of a batch, in the unit of `Chunk.weight` (one chunk may be larger).
        in_flight: Most batches between `handler` and retirement.
        deadline_s: How long a chunk may wait for others; 0: no longer than for the rest of its fetch.
    """

    def __init__(
        self,
        generation: int,
        handler: BatchHandler,
        *,
        acknowledge: Callable[[EventType], Awaitable[None]],
        on_dequeue: Callable[[Chunk], None],
        batch_events: int,
        in_flight: int,
        deadline_s: float = 0.0,
    ) -> None:
        self.generation = generation
        self._handler = handler
        self._acknowledge = acknowledge
        self._on_dequeue = on_dequeue
        self._batch_events = batch_events
        self._deadline_s = deadline_s
        self._slots = asyncio.Semaphore(in_flight)
        self._waiting: dict[int, deque[Delivery[EventType]]] = {}  # by partition group
        self._waiting_weight = 0
        self._ready = False  # the chunks that waited are worth a batch: the last fetch is in, or the batch is full
        self._wake = asyncio.Event()
        self._closed = False
        self._running: deque[tuple[list[Delivery[EventType]], asyncio.Task[None]]] = deque()
        self._started = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, delivery: Delivery[EventType]) -> None:
        """Queue a chunk; ignored once the lane is closed."""
        if not self._closed:
            self._waiting.setdefault(delivery.chunk.partition, deque()).append(delivery)
            self._waiting_weight += delivery.chunk.weight
            if self._deadline_s:
                delivery.due = asyncio.get_running_loop().time() + self._deadline_s
                self._wake.set()
            elif not delivery.chunk.more or self._waiting_weight >= self._batch_events:
                self._ready = True
                self._wake.set()

    def close(self) -> None:
        """Begin no further batch and forget what waits; batches in flight go on."""
        self._closed = True
        self._waiting.clear()
        self._wake.set()

    async def drain(self, timeout_s: float) -> bool:
        """Close, then wait for the batches in flight; whether all were retired in time."""
        self.close()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            left = len(self._running)
            log.warning("%d batches of assignment %d still run after %.1f s", left, self.generation, timeout_s)
            return False
        return True

    async def run(self) -> None:
        """Form, start and retire batches until closed and drained.

        Raises:
            FencedError: Another worker owns the partitions; nothing more of this lane will be acknowledged.
            Exception: Whatever the handler raised for the first batch that failed.
        """
        starter = asyncio.create_task(self._start_batches(), name=f"start batches {self.generation}")
        try:
            await self._retire_batches(starter)
        finally:
            self.close()
            starter.cancel()
            for _, task in self._running:
                task.cancel()
            self._running.clear()
            self._idle.set()

    async def _start_batches(self) -> None:
        last: dict[int, OrderedCommitBarrier] = {}  # of each group
        while not self._closed:
            await self._slots.acquire()
            while not self._closed and (wait_s := self._seconds_until_ready()) > 0:
                self._wake.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), None if wait_s == inf else wait_s)
            batch = self._form_batch()
            if not batch:
                break
            groups = {delivery.chunk.partition for delivery in batch}
            barrier = OrderedCommitBarrier([last[group] for group in groups if group in last])
            last |= dict.fromkeys(groups, barrier)
            task = asyncio.create_task(self._handle(batch, barrier), name=f"batch of assignment {self.generation}")
            self._idle.clear()
            self._running.append((batch, task))
            self._started.set()
        self._started.set()

    def _seconds_until_ready(self) -> float:
        """Seconds until what waits is worth a batch: 0 or less if it is, infinite if that takes another chunk."""
        if not self._deadline_s:
            return 0.0 if self._ready else inf
        if self._waiting_weight >= self._batch_events:
            return 0.0
        oldest = min((waiting[0].due for waiting in self._waiting.values()), default=inf)
        return oldest - asyncio.get_running_loop().time()

    def _form_batch(self) -> list[Delivery[EventType]]:
        """Take what waits, group after group, as far as there is room; the next batch begins with the groups left out.

        So under a backlog a batch is of few groups, and the batches of other groups need not wait for it. Where all that waits
        would be one batch while another is in flight, it takes half of the groups: batches that have no group in common run side
        by side, one in the model or the store while another is folded. With a deadline all goes that waits: it is
        there for large batches.
        """
        batch: list[Delivery[EventType]] = []
        weight = 0
        groups = list(self._waiting)
        if self._running and self._waiting_weight <= self._batch_events and not self._deadline_s:
            groups = groups[: (len(groups) + 1) // 2]
        for group in groups:
            waiting = self._waiting[group]
            before = len(batch)
            while waiting and (not batch or weight + waiting[0].chunk.weight <= self._batch_events):
                delivery = waiting.popleft()
                self._on_dequeue(delivery.chunk)
                weight += delivery.chunk.weight
                batch.append(delivery)
            if len(batch) > before:
                del self._waiting[group]
            if waiting:
                self._waiting[group] = waiting  # if it was served, behind the others
                break
        self._waiting_weight -= weight
        self._ready = bool(self._waiting)
        return batch

    async def _handle(self, batch: Sequence[Delivery[EventType]], barrier: OrderedCommitBarrier) -> None:
        ok = False
        try:
            await self._handler.handle([delivery.chunk for delivery in batch], barrier)
            ok = True
        finally:
            barrier.finish(ok=ok)

    async def _retire_batches(self, starter: asyncio.Task[None]) -> None:
        while True:
            while not self._running:
                self._idle.set()
                if starter.done():
                    return starter.result()
                self._started.clear()
                await self._started.wait()
            batch, task = self._running[0]
            await asyncio.wait([task])
            if task.cancelled():
                msg = "the batch handler was cancelled from inside"
                raise AbandonedError(msg)
            task.result()
            for delivery in batch:
                await self._acknowledge(delivery.event)
            self._running.popleft()
            self._slots.release()
