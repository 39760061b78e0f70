"""The consumer's own thread: claims, seeks and fetches, all on aiokafka's event loop.

Invariant: every record that `fetch` returns was fetched after the seek of the current assignment, and the ranges of one partition
join without a gap. It holds because the thread ends the fetch in flight before partitions go and before it seeks, and because it
reads the fetcher's position in the same instant (no await between) as the records.

Uses private parts of aiokafka and Faust; `tests/unit/stream_app/agents/test_private_methods.py` pins them.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import aiokafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, InconsistentGroupProtocolError, KafkaError
from faust.transport.drivers import aiokafka as driver

from stream_app.agents.lenient_headers import tolerate_odd_headers
from stream_app.agents.ports import WEIGHT_BYTES, Chunk, LogPosition, StartPositions, TopicPartition
from stream_app.agents.unreadable_batches import name_unreadable_batches
from stream_app.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence

    from aiokafka import ConsumerRecord
    from faust.types import TP

    from stream_app.agents.ports import AppSideConsumer

T = TypeVar("T")

_IDLE_S = 0.02
_RETRY_BACKOFF_MS = 250  # aiokafka logs several lines a try while a broker is away


class ChunkThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer in its thread; it fetches chunks where Faust's own fetches records."""

    _generation = 0  # assignments so far in this process
    _token = 0  # the assignment that `_positions` belongs to; 0 while there is none
    _fetching: asyncio.Future[list[Chunk]] | None = None
    _failing: asyncio.Future[None] | None = None  # keeps the task alive
    _positions: dict[aiokafka.TopicPartition, int]  # first offset not yet handed over

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positions = {}

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        # Faust's own method hard-codes read_uncommitted and a fetch wait of 1.5 s, and its assignor does not keep partition p
        # of all topics together when there are no tables. The range assignor does, for topics of equal partition counts.
        conf, options = self.app.conf, self._app_side.options
        tolerate_odd_headers()
        name_unreadable_batches()
        self._assignor = type("WorkerAssignor", (RangePartitionAssignor,), {"name": options.protocol})
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            retry_backoff_ms=_RETRY_BACKOFF_MS,
            auto_offset_reset="none",  # never jump silently: `_choose_starts` chooses the offsets
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_min_bytes=options.fetch_min_bytes,
            fetch_max_wait_ms=options.fetch_pause_ms,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=options.session_timeout_ms,
            rebalance_timeout_ms=options.rebalance_timeout_ms,
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            isolation_level="read_committed",
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    @property
    def _app_side(self) -> AppSideConsumer:
        return cast("AppSideConsumer", self.consumer)

    async def on_start(self) -> None:
        """Start aiokafka's consumer, and end the worker on an error that ends its group membership."""
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        push = coordinator._push_error_to_user

        def push_and_fail(error: BaseException) -> Awaitable[Any]:
            # aiokafka leaves the error for the next fetch and waits for that fetch. Between two assignments nothing is
            # fetched: the worker would wait for ever and look alive.
            error = _of_a_stranger(error) if isinstance(error, InconsistentGroupProtocolError) else error
            self._failing = asyncio.ensure_future(self._on_app_loop(self._app_side.fail("group membership", error)))
            waiting: Awaitable[Any] = push(error)
            return waiting

        coordinator._push_error_to_user = push_and_fail

    async def on_thread_stop(self) -> None:
        """Stop aiokafka's consumer; leave the group if membership is dynamic."""
        try:
            await super().on_thread_stop()
        except asyncio.CancelledError:
            # aiokafka cancels a fetch that backs off, and the cancellation escapes from the middle of its stop. Faust would
            # then wait for this thread for ever.
            kafka = self._ensure_consumer()
            await kafka._coordinator.close()
            await kafka._client.close()

    # Faust's listener calls the next two from aiokafka's rebalance, which waits for them.

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """End the fetch in flight, then let the app's side drain and commit."""
        await self._stop_fetching()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Claim the partitions, choose the start offsets, seek; then start the assignment on the app's side."""
        await self._stop_fetching()
        self._generation += 1
        token = self._token = self._generation
        consumer = self._app_side
        try:
            fronts = await self._on_app_loop(consumer.claim(_partitions_of(assigned), token))
            starts = await self._choose_starts(_partitions_of(assigned), fronts)
        except Exception as error:  # noqa: BLE001  # whatever it is, it ends the worker
            await self._on_app_loop(consumer.fail("assignment", error))
            return
        kafka = self._ensure_consumer()
        for place, offset in starts.items():
            tp = aiokafka.TopicPartition(*place)
            kafka.seek(tp, offset)  # also drops records that were fetched from other offsets
            self._positions[tp] = offset
        await self._on_app_loop(consumer.start_assignment(token, starts))
        await super().on_partitions_assigned(assigned, generation_id)

    async def _choose_starts(self, assigned: frozenset[TopicPartition], fronts: Mapping[TopicPartition, int]) -> StartPositions:
        """The lower of the store's front and Kafka's committed offset; the only one there is; else the beginning of the log."""
        kafka = self._ensure_consumer()
        tps = {place: aiokafka.TopicPartition(*place) for place in assigned}
        starts = StartPositions()
        starts.committed = {}
        if not tps:
            return starts
        beginnings = await kafka.beginning_offsets(list(tps.values()))
        ends = await kafka.end_offsets(list(tps.values()))
        offsets = await asyncio.gather(*(kafka.committed(tp) for tp in tps.values()))
        for (place, tp), committed in zip(tps.items(), offsets, strict=True):
            if committed is not None:
                starts.committed[place] = committed
            known = [offset for offset in (fronts.get(place), committed) if offset is not None]
            start = min(known, default=beginnings[tp])
            if not beginnings[tp] <= start <= ends[tp]:
                position = LogPosition(start, beginnings[tp], ends[tp])
                start = await self._on_app_loop(self._app_side.hooks.on_out_of_range(place, position))
            starts[place] = start
        return starts

    def coordinator_is_away(self) -> bool:
        """Return whether no heartbeat reaches the broker."""
        kafka = self._consumer
        return kafka is None or kafka._coordinator.coordinator_id is None

    async def fetch(self, active: frozenset[TopicPartition], max_records: int, wait_ms: int) -> list[Chunk]:
        """Return fetched records as chunks; wait for them at most `wait_ms`. Call it on this thread's loop.

        Raises:
            ConsumerStoppedError: The consumer is closed.
            OffsetOutOfRangeError: The broker has deleted the records to read next.
        """
        kafka = self._ensure_consumer()
        if kafka._closed or kafka._fetcher._closed:
            raise ConsumerStoppedError
        tps = frozenset(aiokafka.TopicPartition(*place) for place in active) & self._positions.keys()
        if not tps:
            await asyncio.sleep(_IDLE_S)  # the caller calls again at once
            return []
        self._fetching = task = asyncio.ensure_future(self._fetch_chunks(kafka, tps, max_records, wait_ms))
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
        return [] if task.cancelled() else task.result()

    async def _fetch_chunks(
        self, kafka: aiokafka.AIOKafkaConsumer, tps: frozenset[aiokafka.TopicPartition], max_records: int, wait_ms: int
    ) -> list[Chunk]:
        fetcher, token = kafka._fetcher, self._token
        with fetcher._subscriptions.fetch_context():
            records = await fetcher.fetched_records(tps, timeout=wait_ms / 1000, max_records=max_records)
        # No await from here on: the positions in `_cut_chunks` belong to these records.
        if token != self._token:
            raise IllegalStateError(f"a fetch of assignment {token} outlived it, assignment {self._token} lost records")
        return self._cut_chunks(kafka, token, records)

    async def _stop_fetching(self) -> None:
        """End the fetch in flight; it would take records of the next assignment and lose them."""
        self._token = 0
        self._positions.clear()  # from here on `fetch` starts nothing
        if self._fetching is not None and not self._fetching.done():
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _cut_chunks(self, kafka: aiokafka.AIOKafkaConsumer, token: int, records: Mapping[Any, list[Any]]) -> list[Chunk]:
        subscription = kafka._subscription.subscription
        assignment = subscription and subscription.assignment
        most = self._app_side.options.chunk_events
        chunks: list[Chunk] = []
        for tp, position in self._positions.items():
            state = assignment.state_value(tp) if assignment and tp in assignment.tps else None
            if state is None or not state.has_valid_position:
                continue
            start, fetched, stop = position, records.get(tp, []), state.position
            if fetched and fetched[0].offset < start:
                place = f"{tp.topic}-{tp.partition}"
                raise IllegalStateError(f"{place}: offset {fetched[0].offset} came, {start} is next")
            highwater = -1 if state.highwater is None else state.highwater
            while start < stop:  # without records, only markers or holes: an empty chunk moves the front over them
                count, size_bytes = _fit(fetched, most)
                part, fetched = fetched[:count], fetched[count:]
                end = part[-1].offset + 1 if fetched else stop
                chunks.append(Chunk(tp.topic, tp.partition, start, end, token, part, True, highwater, size_bytes))
                start = end
            self._positions[tp] = stop
        if chunks:
            chunks[-1] = replace(chunks[-1], more=False)
        return chunks

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        # The position that counts is in the store, so a failed commit of offsets is no reason to stop: the next one repeats it.
        kafka = self._ensure_consumer()
        owned = kafka.assignment()
        by_partition = {aiokafka.TopicPartition(*tp): offset for tp, offset in offsets.items()}
        patience_s = self._app_side.options.drain_timeout_ms / 1000  # without a limit it tries until the broker is back
        try:
            await asyncio.wait_for(kafka.commit({tp: offset for tp, offset in by_partition.items() if tp in owned}), patience_s)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            self.log.warning("offsets not committed, will be tried again: %s %s", type(error).__name__, error)
            return False
        return True

    async def _on_app_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.parent_loop))


def _of_a_stranger(error: InconsistentGroupProtocolError) -> ContractError:
    return ContractError(
        f"the broker refuses this worker as a member of its consumer group ({error}): a program that is no worker, a worker of "
        "another redis.prefix or kafka.topic_prefix, or of a release before 0.1 is a member. Operator action: stop it, or give "
        "it a group of its own; see the members in the log."
    )


def _partitions_of(tps: Iterable[TP]) -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(tp.topic, tp.partition) for tp in tps)


def _fit(records: Sequence[ConsumerRecord[bytes | None, bytes | None]], most: int) -> tuple[int, int]:
    """How many of the records make a chunk of at most the weight `most`, and their bytes; at least one, whatever its weight."""
    count = min(len(records), most)
    size = 0
    for number in range(count):
        record = records[number]
        grown = size + record.serialized_key_size + record.serialized_value_size
        if grown > most * WEIGHT_BYTES and number:
            return number, size
        size = grown
    return count, size
