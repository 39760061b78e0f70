"""Answers reach each partition in order, whatever the broker does, and only a refusal is final."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    UnknownError,
    UnknownTopicOrPartitionError,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from stream_app.agents import publisher as module
from stream_app.agents.publisher import Publisher
from stream_app.codec.outbox import Messages
from stream_app.errors import BrokerUnavailableError, ContractError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class FakeProducer:
    """Takes a batch when it is let; as with aiokafka, its answer comes by a future."""

    def __init__(self, partitions: int = 8, batch_bytes: int = 1_000) -> None:
        self.batch_bytes = batch_bytes
        self.partitions = set(range(partitions))
        self.log: dict[tuple[str, int], list[bytes]] = {}
        self.under_way: Counter[tuple[str, int]] = Counter()
        self.gates: dict[tuple[str, int], asyncio.Event] = {}
        self.errors: dict[tuple[str, int], list[Exception]] = {}  # taken one by one; the last stays
        self.raised_at_once: list[Exception] = []
        self.refreshed = 0
        self.new_partitions: set[int] = set()
        self.client = SimpleNamespace(force_metadata_update=self.refresh, cluster=self)

    async def refresh(self) -> bool:
        self.refreshed += 1
        self.partitions |= self.new_partitions
        return True

    def partitions_for_topic(self, _topic: str) -> set[int]:
        return self.partitions

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(self.batch_bytes, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[None]:
        if self.raised_at_once:
            raise self.raised_at_once.pop(0)
        assert partition in self.partitions, "Unrecognized partition"
        place = topic, partition
        self.under_way[place] += 1
        assert self.under_way[place] == 1, "one at a time"
        return asyncio.ensure_future(self.take(batch, place))

    async def take(self, batch: BatchBuilder, place: tuple[str, int]) -> None:
        try:
            if place in self.gates:
                await self.gates[place].wait()
            await asyncio.sleep(0)
            errors = self.errors.get(place)
            if errors:
                raise errors.pop(0) if len(errors) > 1 else errors[0]
            records = MemoryRecords(bytes(batch._build()))
            while records.has_next():
                self.log.setdefault(place, []).extend(record.value for record in records.next_batch() or () if record.value)
        finally:
            self.under_way[place] -= 1


def make(producer: FakeProducer) -> Publisher:
    publisher = Publisher("nowhere:1", topic_prefix="x-", client_id="test")
    publisher._producer = producer
    return publisher


def numbered(first: int, count: int, size: int = 100) -> Messages:
    return Messages([b"key"] * count, [b"%0*d" % (size, number) for number in range(first, first + count)])


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.001)


def test_many_batches_of_a_partition_follow_each_other_and_partitions_do_not_wait() -> None:
    async def scenario() -> None:
        producer = FakeProducer()
        counts = await make(producer).publish(
            [(group, {"labels": numbered(0, 900), "alerts": numbered(7, 1)}) for group in range(3)]
        )
        assert counts == {"labels": 2_700, "alerts": 3}
        for group in range(3):
            assert producer.log["x-labels", group] == numbered(0, 900).values
            assert producer.log["x-alerts", group] == numbered(7, 1).values

    run(scenario)


def test_a_later_call_comes_behind_an_earlier_one_that_is_sent_again() -> None:
    async def scenario() -> None:
        producer = FakeProducer()
        producer.errors["x-labels", 0] = [NotLeaderForPartitionError(), KafkaTimeoutError(), KafkaConnectionError()]
        errors = producer.errors["x-labels", 0]
        publisher = make(producer)
        calls = [asyncio.create_task(publisher.publish([(0, {"labels": numbered(n * 30, 30)})])) for n in range(3)]
        while len(errors) > 1:  # noqa: ASYNC110  # the fake's list has no event
            await asyncio.sleep(0.001)
        assert producer.log == {}
        errors.clear()
        await asyncio.gather(*calls)
        assert producer.log["x-labels", 0] == numbered(0, 90).values
        assert publisher._last == {}

    run(scenario)


def test_calls_for_different_partitions_do_not_wait_for_each_other() -> None:
    async def scenario() -> None:
        producer = FakeProducer()
        gate = producer.gates["x-labels", 0] = asyncio.Event()
        publisher = make(producer)
        slow = asyncio.create_task(publisher.publish([(0, {"labels": numbered(0, 1)})]))
        await asyncio.sleep(0)
        await publisher.publish([(1, {"labels": numbered(0, 1)})])
        assert not slow.done()
        gate.set()
        await slow

    run(scenario)


def test_a_cancelled_call_in_the_queue_leaves_the_order_as_it_was() -> None:
    async def scenario() -> None:
        producer = FakeProducer()
        gate = producer.gates["x-labels", 0] = asyncio.Event()
        publisher = make(producer)
        calls = [asyncio.create_task(publisher.publish([(0, {"labels": numbered(n, 1)})])) for n in range(2)]
        await asyncio.sleep(0.01)
        calls[1].cancel()
        await asyncio.wait([calls[1]])
        calls.append(asyncio.create_task(publisher.publish([(0, {"labels": numbered(2, 1)})])))
        await asyncio.sleep(0.01)  # were it not to wait, the fake would find two batches under way
        gate.set()
        await asyncio.gather(calls[0], calls[2])
        assert producer.log["x-labels", 0] == [*numbered(0, 1).values, *numbered(2, 1).values]
        assert publisher._last == {}

    run(scenario)


@pytest.mark.parametrize(
    "error", [KafkaTimeoutError(), RequestTimedOutError(), KafkaConnectionError("gone"), UnknownTopicOrPartitionError()], ids=repr
)
def test_timeouts_and_lost_connections_are_waited_out(error: Exception) -> None:
    async def scenario() -> None:
        producer = FakeProducer()
        producer.raised_at_once = [error, error]
        await make(producer).publish([(group, {"labels": numbered(0, 20)}) for group in range(2)])
        assert [producer.log["x-labels", group] for group in range(2)] == [numbered(0, 20).values] * 2

    run(scenario)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (KafkaTimeoutError(), BrokerUnavailableError),
        (NotLeaderForPartitionError(), BrokerUnavailableError),
        (UnknownTopicOrPartitionError(), ContractError),
        (UnknownError(), ContractError),
    ],
    ids=repr,
)
def test_patience_ends(monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception]) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.02)

    async def scenario() -> None:
        producer = FakeProducer()
        producer.errors["x-labels", 1] = [error]
        publisher = make(producer)
        with pytest.raises(raised, match=r"x-labels-1"):
            await publisher.publish([(group, {"labels": numbered(0, 20)}) for group in range(2)])
        assert publisher._last == {}

    run(scenario)


@pytest.mark.parametrize("error", [MessageSizeTooLargeError(), TopicAuthorizationFailedError("x-labels")], ids=repr)
def test_a_refusal_is_final_and_what_comes_behind_is_not_published_before_it(error: Exception) -> None:
    async def scenario() -> None:
        producer = FakeProducer()
        producer.errors["x-labels", 0] = [error]
        publisher = make(producer)
        calls = [publisher.publish([(0, {"labels": numbered(n, 1)})]) for n in range(2)]
        refused, behind = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(refused, ContractError)
        assert "x-labels-0" in str(refused)
        assert "topics check" in str(refused)
        assert isinstance(behind, BrokerUnavailableError)
        assert producer.log == {}

    run(scenario)


def test_a_partition_that_is_not_there_names_the_topic_and_what_to_do() -> None:
    async def scenario() -> None:
        producer = FakeProducer(partitions=2)
        with pytest.raises(ContractError, match=r"x-labels has no partition 5, only 2 .*millrace topics check"):
            await make(producer).publish([(5, {"labels": numbered(0, 1)})])
        assert producer.refreshed == 1

    run(scenario)


def test_a_partition_that_is_new_is_looked_up() -> None:
    async def scenario() -> None:
        producer = FakeProducer(partitions=2)
        producer.new_partitions = {2}
        await make(producer).publish([(2, {"labels": numbered(0, 1)})])
        assert producer.log["x-labels", 2] == numbered(0, 1).values

    run(scenario)
