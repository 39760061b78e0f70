"""The one Faust agent: it reads all source topics and feeds the scheduler of the current assignment.

One agent, not one per topic: a batch then holds whatever waits in any of them, and partition p of all topics commits in
one order. Crash-only: an error of the current assignment ends the worker, nothing of the failed batch is acknowledged,
and the process manager starts it again from the store's front. Only a fence is survived: it means that the group has
moved on without us.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from stream_app.agents.batching import BatchScheduler, Delivery
from stream_app.agents.transport import RawSchema
from stream_app.errors import ContractError, FencedError

if TYPE_CHECKING:
    import faust
    from faust.streams import Stream
    from faust.types import EventT, StreamT

    from stream_app.agents.chunks import Chunk
    from stream_app.agents.options import AgentOptions
    from stream_app.agents.ports import BatchHandler
    from stream_app.agents.transport import ChunkConsumer

__all__ = ["SourceAgent"]

log = logging.getLogger(__name__)

_LOOK_S = 0.1


class Receipt(NamedTuple):
    """What acknowledges a chunk; the last chunk of a haul acknowledges Faust's message as well."""

    chunk: Chunk
    fetch: EventT[Any] | None


class SourceAgent:
    """Registers the agent on the app and runs one scheduler per assignment."""

    def __init__(self, app: faust.App, options: AgentOptions, handler: BatchHandler) -> None:
        self._app = app
        self._options = options
        self._handler = handler
        self._scheduler: BatchScheduler[Receipt] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stream: StreamT[list[Chunk]] | None = None
        source = app.topic(*options.topics, schema=RawSchema())
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
                # A haul of another assignment has slipped through a rebalance and is read again.
                if chunks[0].generation == self._consumer.generation:
                    scheduler = self._scheduler_for(chunks[0].generation)
                    for chunk in chunks:  # retired in this order, so the last one ends the fetch
                        scheduler.put(Delivery(chunk, Receipt(chunk, event if chunk is chunks[-1] else None)))
        finally:
            for task in self._tasks:
                task.cancel()

    async def drain(self, timeout_s: float) -> None:
        """Begin no further batch and wait for those in flight."""
        if self._scheduler is not None:
            await self._scheduler.drain(timeout_s)

    def _scheduler_for(self, generation: int) -> BatchScheduler[Receipt]:
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

    async def _acknowledge(self, receipt: Receipt) -> None:
        self._consumer.acknowledge(receipt.chunk)
        if receipt.fetch is not None and self._stream is not None:
            await self._stream.ack(receipt.fetch)

    async def _run(self, scheduler: BatchScheduler[Receipt]) -> None:
        try:
            await scheduler.run()
        except FencedError as error:
            log.warning("fenced, waiting for a new assignment: %s", error)
            await self._expect_new_assignment(scheduler.generation, error)
        except Exception as error:  # whatever it is, it ends the worker
            if scheduler.generation != self._consumer.generation:
                log.warning("a batch of the past assignment %d failed, it is read again: %r", scheduler.generation, error)
                return
            log.exception("a batch failed")
            await self._consumer.fail("a batch", error)

    async def _expect_new_assignment(self, generation: int, fence: FencedError) -> None:
        # The broker tells a worker that it has lost its partitions at its next heartbeat or when it rejoins.
        patience_s = 2 * self._options.session_timeout_ms / 1000 + 5
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._consumer.generation == generation:  # noqa: ASYNC110  # Faust sets it, and has no event
                    await asyncio.sleep(_LOOK_S)
            return
        msg = (
            f"the store has given this worker's partitions to another ({fence}), but group {self._options.group!r} "
            f"did not rebalance in {patience_s:.0f} s: check that no two workers share an instance id "
            "and no two groups share a store prefix"
        )
        await self._consumer.fail("fencing", ContractError(msg))
