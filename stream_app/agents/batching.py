"""The Faust agent of the source topics, and the scheduler that forms, starts and retires its batches.

One agent reads all source topics: a batch holds what waits in any of them, and partition p of all topics commits in one order. At
low rates a batch is small and leaves at once; at high rates batches grow to the limit. There is no timer unless a deadline is
set: then a batch closes when it is full or when its oldest chunk has waited for so long. A batch waits only for the commits of
earlier batches of its own groups, since it reads nothing else that they write.

Invariants: a batch never mixes assignments; chunks of one partition keep their order; batch n + 1 is acknowledged after batch n;
a batch that fails before its commit takes all later batches of its groups with it and ends the assignment. An error of the
current assignment ends the worker; only a fence is survived, because it means that another worker owns the group now.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, cast

from stream_app.agents.commit_order import OrderedCommitBarrier
from stream_app.errors import AbandonedError, FencedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import faust
    from faust.streams import Stream
    from faust.types import ChannelT, EventT, StreamT

    from stream_app.agents.options import AgentOptions
    from stream_app.agents.ports import BatchHandler, Chunk
    from stream_app.agents.transport import ChunkConsumer

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Delivery:
    """A chunk to process and then to acknowledge; the last chunk of a fetch acknowledges Faust's message as well."""

    chunk: Chunk
    fetch: EventT[Any] | None = None
    due: float = 0.0  # by the loop's clock: when its batch must close; set by `BatchScheduler.put`


class BatchScheduler:
    """The batches of one assignment.

    Args:
        generation: The assignment's number.
        handler: Called once a batch, at most `in_flight` times at once.
        acknowledge: Called with each delivery of a retired batch, in order.
        on_dequeue: Called with each chunk that leaves the queue.
        batch_events: Most weight of a batch, in the unit of `Chunk.weight` (a single chunk may be larger).
        in_flight: Most batches between `handler` and retirement.
        deadline_s: How long a chunk may wait for further chunks; 0: no longer than for the rest of its fetch.
    """

    def __init__(
        self,
        generation: int,
        handler: BatchHandler,
        *,
        acknowledge: Callable[[Delivery], Awaitable[None]],
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
        self._waiting: dict[int, deque[Delivery]] = {}  # by partition group
        self._waiting_weight = 0
        self._ready = False  # the queue is worth a batch: the last fetch is complete, or the batch is full
        self._wake = asyncio.Event()
        self._closed = False
        self._running: deque[tuple[list[Delivery], asyncio.Task[None]]] = deque()
        self._started = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, delivery: Delivery) -> None:
        """Queue a chunk; does nothing once the scheduler is closed."""
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
        """Start no further batch and drop the queue; batches in flight go on."""
        self._closed = True
        self._waiting.clear()
        self._wake.set()

    async def drain(self, timeout_s: float) -> bool:
        """Close, then wait for the batches in flight; return whether all were retired in time."""
        self.close()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            log.warning("%d batches of assignment %d still run after %.1f s", len(self._running), self.generation, timeout_s)
            return False
        return True

    async def run(self) -> None:
        """Form, start and retire batches until closed and drained.

        Raises:
            FencedError: Another worker owns the partitions; nothing more of this assignment will be acknowledged.
            Exception: The handler's error of the first batch that failed.
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
        last: dict[int, OrderedCommitBarrier] = {}  # by group
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
        """Seconds until the queue is worth a batch: 0 or less if it is, infinite if only another chunk can make it so."""
        if not self._deadline_s:
            return 0.0 if self._ready else inf
        if self._waiting_weight >= self._batch_events:
            return 0.0
        oldest = min((waiting[0].due for waiting in self._waiting.values()), default=inf)
        return oldest - asyncio.get_running_loop().time()

    def _form_batch(self) -> list[Delivery]:
        """Take chunks from the queue, group after group, as far as there is room; the next batch begins with the groups left out.

        If the whole queue fits into one batch while another is in flight, the batch takes half of the groups: batches without a
        common group run side by side, one in the model or the store while another is folded. With a deadline, which asks for
        large batches, it takes the whole queue.
        """
        batch: list[Delivery] = []
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
                self._waiting[group] = waiting  # a group that was served goes to the end
                break
        self._waiting_weight -= weight
        self._ready = bool(self._waiting)
        return batch

    async def _handle(self, batch: Sequence[Delivery], barrier: OrderedCommitBarrier) -> None:
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
                raise AbandonedError("the batch handler was cancelled from inside")
            task.result()
            for delivery in batch:
                await self._acknowledge(delivery)
            self._running.popleft()
            self._slots.release()


class SourceAgent:
    """Registers the agent on the app and runs one scheduler for each assignment."""

    def __init__(self, app: faust.App, source: ChannelT[list[Chunk]], options: AgentOptions, handler: BatchHandler) -> None:
        self._app = app
        self._options = options
        self._handler = handler
        self._scheduler: BatchScheduler | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stream: StreamT[list[Chunk]] | None = None
        app.agent(source, name="millrace.sources")(self.consume)

    @property
    def _consumer(self) -> ChunkConsumer:
        return cast("ChunkConsumer", self._app.consumer)

    async def consume(self, stream: StreamT[list[Chunk]]) -> None:
        """Queue the chunks of each fetch with the scheduler of their assignment."""
        self._stream = stream
        self._consumer.drainer = self.drain
        try:
            async for event in cast("Stream[list[Chunk]]", stream).noack().events():
                chunks = cast("list[Chunk]", event.value)
                # A fetch of another assignment has slipped through a rebalance; it is read again.
                if chunks[0].generation == self._consumer.generation:
                    scheduler = self._scheduler_for(chunks[0].generation)
                    for chunk in chunks:  # retired in this order, so the last chunk acknowledges the fetch
                        scheduler.put(Delivery(chunk, event if chunk is chunks[-1] else None))
        finally:
            for task in self._tasks:
                task.cancel()

    async def drain(self, timeout_s: float) -> None:
        """Start no further batch and wait for those in flight."""
        if self._scheduler is not None:
            await self._scheduler.drain(timeout_s)

    def _scheduler_for(self, generation: int) -> BatchScheduler:
        if self._scheduler is None or self._scheduler.generation != generation:
            self._scheduler = BatchScheduler(
                generation,
                self._handler,
                acknowledge=self._acknowledge,
                on_dequeue=self._consumer.release_room,
                batch_events=self._options.batch_events,
                in_flight=self._options.in_flight,
                deadline_s=self._options.batch_deadline_ms / 1000,
            )
            task = asyncio.create_task(self._run(self._scheduler), name=f"scheduler {generation}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._scheduler

    async def _acknowledge(self, delivery: Delivery) -> None:
        self._consumer.acknowledge(delivery.chunk)
        if delivery.fetch is not None and self._stream is not None:
            await self._stream.ack(delivery.fetch)

    async def _run(self, scheduler: BatchScheduler) -> None:
        try:
            await scheduler.run()
        except FencedError as error:
            log.warning("fenced, waiting for a new assignment: %s", error)
            await self._consumer.expect_new_assignment(scheduler.generation, error)
        except Exception as error:  # any error ends the worker
            if scheduler.generation == self._consumer.generation:
                log.exception("a batch failed")
                await self._consumer.fail("a batch", error)
            else:
                log.warning("a batch of the past assignment %d failed, it is read again: %r", scheduler.generation, error)
