"""Faust's consumer and transport; they deliver chunks where Faust's own deliver records.

Invariant: an offset is committed only when every chunk below it, from the start of the assignment, has been acknowledged by the
assignment that fetched it. One number for each partition, the front, keeps it: an acknowledgement counts only for the current
assignment and only at the front. One beyond the front means that a chunk was lost on the way, and ends the worker.

Faust's own consumer spends 200 us an event on four asyncio tasks for each message. Here all chunks of one fetch travel as one
message, so that this cost is paid once for each fetch.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from aiokafka.errors import ConsumerStoppedError, KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from stream_app.admin.group_members import read_group
from stream_app.admin.topic_ids import read_topic_ids
from stream_app.agents.consumer_thread import ChunkThread
from stream_app.agents.ports import TopicPartition
from stream_app.errors import ContractError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    import faust
    from faust.types import Message

    from stream_app.admin.group_members import GroupMembers
    from stream_app.agents.options import AgentOptions
    from stream_app.agents.ports import AssignmentHooks, Chunk, StartPositions
    from stream_app.errors import FencedError

_POLL_S = 0.1  # between two checks of the generation, which has no asyncio.Event
_IDLE_S = 0.02  # pause before the next try when nothing may be fetched
_FETCH_WAIT_MS = 1_000
_STALLED_S = 60.0
_TOPICS_EVERY_S = 10.0  # a look takes 6 ms of CPU
_FAILS_BY_MEMBERS = ("assignment", "group membership")  # these may fail by the fault of another program in the group
_MOST_ASSIGNMENTS, _ASSIGNMENTS_S = 10, 60.0  # this many assignments in this many seconds: no scaling does that


class ChunkConsumer(driver.Consumer):
    """The consumer on the app's loop (see `ports.AppSideConsumer`): fronts, acknowledgements, commits, drain."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # Faust's own arguments, passed on
        super().__init__(*args, **kwargs)
        transport: ChunkTransport = self.transport  # type: ignore[assignment]  # it created this consumer
        self.options = transport.options
        self.hooks = transport.hooks
        self.drainer: Callable[[float], Awaitable[None]] | None = None
        self.generation = 0  # the assignment whose acknowledgements count; 0 = none
        self._claimed: frozenset[TopicPartition] = frozenset()
        self._fronts: dict[TP, int] = {}
        self._waiting_weight = 0
        self._assigned_s: deque[float] = deque(maxlen=_MOST_ASSIGNMENTS)
        self.last_commit_s = time.monotonic()

    def _new_consumer_thread(self) -> ChunkThread:
        return ChunkThread(self, loop=self.loop, beacon=self.beacon)

    # -- assignment: the thread calls `claim`, `start_assignment` and `fail`, on this loop --

    async def claim(self, partitions: frozenset[TopicPartition], generation: int) -> Mapping[TopicPartition, int]:
        """Claim the partitions in the store and return their fronts."""
        self._check_instance_id()
        await self._check_topics()
        fronts = await self.hooks.on_assigned(partitions, generation)
        self._claimed = partitions
        return fronts

    async def _check_topics(self) -> None:
        if not self.options.broker_describes:
            return
        ids = await asyncio.to_thread(read_topic_ids, self.options.bootstrap, self.options.topics)
        await self.hooks.check_topics(ids)

    async def _watch_topics(self, generation: int) -> None:
        while generation == self.generation and not self.should_stop:
            await self.sleep(_TOPICS_EVERY_S)
            with suppress(StoreUnavailableError):  # batches meet the same error and handle it
                await self._check_topics()

    def _check_instance_id(self) -> None:
        """Refuse a fast series of assignments: two processes with one instance id take each other's partitions."""
        now_s = time.monotonic()
        self._assigned_s.append(now_s)
        if self.options.instance and len(self._assigned_s) == _MOST_ASSIGNMENTS and now_s - self._assigned_s[0] < _ASSIGNMENTS_S:
            msg = (
                f"{_MOST_ASSIGNMENTS} assignments in {now_s - self._assigned_s[0]:.0f} s: another worker of group "
                f"{self.options.group!r} seems to run with instance id {self.options.instance!r}; give each its own"
            )
            raise ContractError(msg)

    async def start_assignment(self, generation: int, starts: StartPositions) -> None:
        """Count acknowledgements of this assignment from now on, from these offsets."""
        self._fronts = {TP(*place): start for place, start in starts.items()}
        self._acked.clear()
        self._read_offset.clear()
        self._read_offset.update(self._fronts)
        self._committed_offset.clear()
        self._committed_offset.update({TP(*place): offset for place, offset in starts.committed.items()})
        self._waiting_weight = 0
        self.generation = generation
        offsets = {f"{topic}-{partition}": offset for (topic, partition), offset in sorted(starts.items())}
        self.log.info("assignment %d starts at %s", generation, offsets)
        self.add_future(self._watch_background(generation))

    async def _watch_background(self, generation: int) -> None:
        """End the worker if republishing or the store fails, also when no batch comes that would raise the error."""
        try:
            await self._refuse_newer_protocol()
            await asyncio.gather(self.hooks.watch_assignment(), self._watch_topics(generation))
        except Exception as error:  # noqa: BLE001  # whatever it is, it ends the worker
            if generation == self.generation:
                await self.fail("the watch beside the batches", error)

    async def _refuse_newer_protocol(self) -> None:
        """Refuse a group of Kafka's newer protocol: one member that asks for it joins any group, and the broker assigns."""
        group = await self._members()
        if group is not None and group.newer_protocol:
            raise ContractError(
                f"a program with group.protocol=consumer has joined group {self.options.group!r}, and takes partitions away. "
                f"Operator action: stop it, or give it a group of its own. Members of group {self.options.group}: {group}."
            )

    async def _members(self) -> GroupMembers | None:
        if not self.options.broker_describes:
            return None
        return await asyncio.to_thread(read_group, self.options.bootstrap, self.options.group)

    async def fail(self, what: str, error: BaseException) -> None:
        """End the worker with this error."""
        self.log.critical("%s failed, the worker stops: %s: %s", what, type(error).__name__, error)
        if what in _FAILS_BY_MEMBERS and isinstance(error, ContractError):
            self.log.critical("members of group %s: %s", self.options.group, await self._members() or "the broker does not say")
        await self.app.crash(error)

    async def expect_new_assignment(self, generation: int, fence: FencedError) -> None:
        """Return when another assignment than this one is current; end the worker if none comes in time."""
        # A worker learns at its next heartbeat, or when it rejoins, that it has lost its partitions.
        patience_s = 2 * self.options.session_timeout_ms / 1000 + 5
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self.generation == generation:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
            return
        message = (
            f"the store has given this worker's partitions to another ({fence}), but group {self.options.group!r} "
            f"did not rebalance in {patience_s:.0f} s: check that no two workers share an instance id "
            "and no two groups share a store prefix"
        )
        await self.fail("fencing", ContractError(message))

    async def perform_seek(self) -> None:
        """Do nothing: Faust wants a seek to the committed offsets, but the thread has already sought to better ones."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Stop the flow, drain, commit, call the hooks; afterwards nothing of the old assignment counts."""
        if revoked and not self.should_stop:
            self.stop_flow()
            self.app.flow_control.suspend()
            self.app.flow_control.clear()
            await self._drain_and_commit()
        await self._release_assignment()
        await super().on_partitions_revoked(revoked)

    async def _release_assignment(self) -> None:
        generation, self.generation = self.generation, 0
        self._fronts.clear()
        if generation == 0 or self._crashed_app():
            return
        try:
            await self.hooks.on_revoked(self._claimed, generation)
        except Exception as error:  # noqa: BLE001  # whatever it is, it ends the worker
            await self.fail("revocation", error)

    async def _drain_and_commit(self) -> None:
        if self.drainer is not None and not self._crashed_app():
            await self.drainer(self.options.drain_timeout_ms / 1000)
        if self.generation:
            await self.commit()

    async def wait_empty(self) -> None:
        """Drain, commit and release the assignment; Faust calls this on SIGTERM, before it cancels the agents."""
        await self._drain_and_commit()
        await self._release_assignment()

    def close(self) -> None:
        """Do nothing: Faust calls this from the wrong loop at a rebalance during a stop; the thread's stop closes everything."""

    def _crashed_app(self) -> bool:
        return cast("faust.App", self.app)._crashed.is_set()

    # -- chunks in --

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109  # Faust's signature
        """Yield the chunks of one fetch as one message; Faust calls this in a loop."""
        chunks = await self._next_chunks()
        # A change of flow or assignment makes the chunks void: an assignment follows and seeks.
        if not chunks or not self.flow_active or chunks[0].generation != self.generation or self.should_stop:
            return
        for chunk in chunks:
            if chunk.highwater >= 0:
                self.app.monitor.track_tp_end_offset(TP(chunk.topic, chunk.partition), chunk.highwater)
            self._waiting_weight += _weight(chunk)
        message = self._message(chunks)
        yield message.tp, message

    async def _next_chunks(self) -> list[Chunk]:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]  # an asyncio.Event, as in Faust itself
        room = self.options.buffer_events - self._waiting_weight
        active = frozenset(TopicPartition(tp.topic, tp.partition) for tp in self._get_active_partitions())
        if self.should_stop or not active or room <= 0 or not self.generation:
            await asyncio.sleep(_IDLE_S)
            return []
        thread: ChunkThread = self._thread  # type: ignore[assignment]  # made by _new_consumer_thread
        fetch = thread.fetch(active, room, _FETCH_WAIT_MS)
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(fetch, thread.thread_loop))
        except (KafkaError, ContractError) as error:
            if isinstance(error, ConsumerStoppedError):
                raise  # Faust handles it
            await self.fail("fetching", error)
            return []

    def _message(self, chunks: list[Chunk]) -> ConsumerMessage:
        first = chunks[0]  # Faust routes a message by one partition; all topics go to one agent
        return ConsumerMessage(
            first.topic,
            first.partition,
            first.end - 1,
            first.records[-1].timestamp / 1000 if first.records else 0.0,
            0,
            [],
            None,
            chunks,  # type: ignore[arg-type]  # RawSchema passes them on unchanged
            None,
            0,
            0,
            TP(first.topic, first.partition),
            generation_id=self.app.consumer_generation_id,
        )

    def release_room(self, chunk: Chunk) -> None:
        """Free the buffer space of a chunk that has left the queue: there is room to fetch more."""
        if chunk.generation == self.generation:
            self._waiting_weight -= _weight(chunk)

    def why_not_ready(self) -> str:
        """Return why this worker scores nothing now, for a person; empty: it is ready."""
        if not self.generation:
            return "no partitions are assigned"
        if self._coordinator_is_away():
            return "Kafka does not answer"
        if not self.hooks.store_answers():
            return "Redis does not answer"
        if self._waiting_weight and self.commit_age_s() > _STALLED_S:
            return f"events wait, and no offset was committed for {self.commit_age_s():.0f} s"
        return ""

    def _coordinator_is_away(self) -> bool:
        thread: ChunkThread = self._thread  # type: ignore[assignment]  # made by _new_consumer_thread
        return thread.coordinator_is_away()

    def commit_age_s(self) -> float:
        """Return the seconds since offsets were last committed."""
        return time.monotonic() - self.last_commit_s

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: chunks carry their own ranges, so Faust's tree of gaps is not used."""

    # -- acknowledgements out --

    def ack(self, message: Message) -> bool:
        """Forget the message of a fetch whose chunks are all acknowledged; `acknowledge` has moved the fronts."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    def acknowledge(self, chunk: Chunk) -> bool:
        """Move the front of the chunk's partition, if the chunk belongs to the current assignment."""
        tp = TP(chunk.topic, chunk.partition)
        if chunk.generation != self.generation or tp not in self._fronts:
            self.log.info("acknowledgement of %r came after its assignment; it will be read again", chunk)
            return False
        if chunk.start > self._fronts[tp]:
            text = f"{chunk!r} is done, but offset {self._fronts[tp]} of its partition never was: records were lost on the way"
            self.add_future(self.fail("acknowledgement", ContractError(f"{text}; restart the worker")))
            return False
        self._fronts[tp] = max(self._fronts[tp], chunk.end)
        self._acked[tp] = [self._fronts[tp] - 1]
        self._n_acked += 1
        return True

    def _new_offset(self, tp: TP) -> int | None:
        return self._fronts.get(tp)

    def _should_commit(self, tp: TP, offset: int) -> bool:
        committed = self._committed_offset[tp]
        return committed is None or offset > committed

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        generation = self.generation
        if not await self._commit(offsets):
            return False
        if generation == self.generation:
            self._committed_offset.update(offsets)
        self.last_commit_s = time.monotonic()
        self.app.monitor.on_tp_commit(dict(offsets))
        return True

    async def verify_all_partitions_active(self) -> None:
        """Do nothing: Faust's stall detector compares two kinds of clocks; watch `last_commit_s` and the lag instead."""


class ChunkTransport(driver.Transport):
    """Faust's Kafka transport with the chunked consumer."""

    Consumer = ChunkConsumer

    def __init__(self, *args: Any, options: AgentOptions, hooks: AssignmentHooks, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.options = options
        self.hooks = hooks


def _weight(chunk: Chunk) -> int:
    return max(chunk.weight, 1)  # an empty chunk takes memory too
