"""The publisher against a real broker: partitions far behind, a broker that is away, partitions that are not there."""

from __future__ import annotations

import asyncio
import logging
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from devservices import real
from stream_app.agents import publisher as module
from stream_app.agents.publisher import Publisher
from stream_app.codec.outbox import Messages
from stream_app.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def make_topic(bootstrap: str, name: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topic = NewTopic(name, partitions, 1, config={"max.message.bytes": "4194304"})
    for future in admin.create_topics([topic]).values():
        future.result(timeout=30)


def read(bootstrap: str, topic: str, partition: int, count: int) -> list[bytes]:
    """The partition's first values, whole and in order."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex})
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
    values: list[bytes] = []
    try:
        while len(values) < count:
            messages = consumer.consume(count - len(values), 30)
            assert messages, f"{len(values)} of {count} values"
            for message in messages:
                if message.error():
                    raise KafkaException(message.error())
                values.append(message.value() or b"")
    finally:
        consumer.close()
    return values


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # what is looked at has no event
            await asyncio.sleep(0.05)


def test_more_than_a_hundred_large_messages_for_one_partition(kafka_bootstrap: str, topic_prefix: str) -> None:
    make_topic(kafka_bootstrap, f"{topic_prefix}dead-letters", 1)
    values = [b"%0*d" % (1_400_000, number) for number in range(120)]

    async def scenario() -> None:
        publisher = Publisher(kafka_bootstrap, topic_prefix=topic_prefix, client_id="test")
        await publisher.start()
        try:
            assert await publisher.publish([(0, {"dead-letters": Messages([None] * 120, values)})]) == {"dead-letters": 120}
        finally:
            await publisher.stop()

    asyncio.run(scenario())
    assert [int(value[-10:]) for value in read(kafka_bootstrap, f"{topic_prefix}dead-letters", 0, 120)] == list(range(120))


def test_a_broker_that_is_away_is_waited_for_and_the_order_is_kept(
    own_broker: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root, bootstrap = own_broker
    monkeypatch.setattr(module, "_ATTEMPT_MS", 2_000)  # aiokafka gives up soon, and it is we who wait
    caplog.set_level(logging.WARNING, module.__name__)
    make_topic(bootstrap, "labels", 2)

    def tries() -> int:
        return sum("again" in record.getMessage() for record in caplog.records if record.name == module.__name__)

    async def scenario() -> None:
        publisher = Publisher(bootstrap, topic_prefix="", client_id="test")
        await publisher.start()

        def publish(number: int) -> asyncio.Task[dict[str, int]]:
            return asyncio.create_task(publisher.publish([(g, {"labels": Messages([b"k"], [b"%d" % number])}) for g in range(2)]))

        try:
            await publish(0)
            await asyncio.to_thread(real.stop_kafka, root)
            calls = [publish(number) for number in range(1, 4)]
            await until(lambda: tries() >= 3)
            await asyncio.to_thread(real.start_kafka, root)
            await asyncio.gather(*calls, publish(4))
        finally:
            await publisher.stop()

    asyncio.run(scenario())
    for partition in range(2):
        values = [int(value) for value in read(bootstrap, "labels", partition, 5)]
        assert sorted(set(values)) == list(range(5))
        assert values == sorted(values), "a repeat may come, but before the next"


def test_a_topic_with_too_few_partitions_is_named(kafka_bootstrap: str, topic_prefix: str) -> None:
    make_topic(kafka_bootstrap, f"{topic_prefix}labels", 2)

    async def scenario() -> None:
        publisher = Publisher(kafka_bootstrap, topic_prefix=topic_prefix, client_id="test")
        await publisher.start()
        try:
            with pytest.raises(ContractError, match=r"labels has no partition 5, only 2 .*millrace topics check"):
                await publisher.publish([(5, {"labels": Messages([b"k"], [b"v"])})])
        finally:
            await publisher.stop()

    asyncio.run(scenario())
