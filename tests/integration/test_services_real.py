"""The true Kafka and Redis under `services.real`: a checkout of its own, killed, restarted and stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from devservices import process, real
from devservices.state import ServicesState
from tests.integration.transport_harness import share_jars

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


@pytest.fixture(scope="module")
def root(real_services: ServicesState, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of its own with servers of its own; the jars are the checkout's, so that nothing is fetched twice."""
    folder = tmp_path_factory.mktemp("checkout")
    share_jars(folder)
    try:
        yield folder
    finally:
        real.down(folder)
        assert [each.pid for each in real.status(folder)] == [0, 0]


@contextmanager
def admin_of(state: ServicesState) -> Iterator[Any]:
    admin = KafkaAdminClient(bootstrap_servers=state.kafka.bootstrap)
    try:
        yield admin
    finally:
        admin.close()


def make_topic(state: ServicesState, name: str, **configs: str) -> None:
    with admin_of(state) as admin:
        admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1, topic_configs=configs)])


def produce(state: ServicesState, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=state.kafka.bootstrap, max_request_size=8_000_000)
    try:
        for future in [producer.send(topic, value) for value in values]:
            future.get(timeout=30)
    finally:
        producer.close()


def consume(state: ServicesState, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=state.kafka.bootstrap, consumer_timeout_ms=30_000)
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        return [next(consumer).value for _ in range(count)]
    finally:
        consumer.close()


def ends(pid: int) -> bool:
    process.stop(pid, "", Path())  # collects the exit status of a child
    return process.wait_until(lambda: not psutil.pid_exists(pid), 20)


def test_the_broker_makes_no_topic_by_itself(real_services: ServicesState, topic_prefix: str) -> None:
    with admin_of(real_services) as admin:
        admin.list_topics()
        admin.describe_topics([f"{topic_prefix}unknown"])  # a metadata request, which could create one
        assert f"{topic_prefix}unknown" not in admin.list_topics()


def test_a_topic_may_take_messages_larger_than_the_brokers_limit(real_services: ServicesState, topic_prefix: str) -> None:
    topic = f"{topic_prefix}large"
    make_topic(real_services, topic, **{"max.message.bytes": "4000000"})
    value = os.urandom(3_000_000)
    produce(real_services, topic, [value])
    assert consume(real_services, topic, 1) == [value]


def test_redis_writes_every_command_to_its_append_only_file(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.config_get("append*")["appendonly"] == "yes"
        assert client.config_get("appendfsync")["appendfsync"] == "everysec"
        assert client.config_get("save")["save"] == ""
        assert client.config_get("bind")["bind"] == "127.0.0.1"


@pytest.mark.slow
def test_a_killed_broker_comes_back_on_its_port_with_its_records(root: Path, topic_prefix: str) -> None:
    first = real.up(root, print)
    topic = f"{topic_prefix}kept"
    make_topic(first, topic)
    produce(first, topic, [b"a", b"b"])
    os.kill(first.kafka.pid, signal.SIGKILL)
    assert ends(first.kafka.pid)
    assert [each.condition for each in real.status(root)] == ["stopped", "running"]
    second = real.up(root, print)
    assert second.kafka.bootstrap == first.kafka.bootstrap
    assert second.kafka.pid != first.kafka.pid
    assert second.redis == first.redis
    assert consume(second, topic, 2) == [b"a", b"b"]


def test_a_killed_redis_comes_back_with_its_keys(root: Path, redis_prefix: str) -> None:
    first = real.up(root, print)
    with redis.Redis.from_url(first.redis.url) as client:
        client.set(f"{redis_prefix}:key", b"value")
    second = real.restart_redis(root, kill=True)
    assert second.redis.url == first.redis.url
    with redis.Redis.from_url(second.redis.url) as client:
        assert client.get(f"{redis_prefix}:key") == b"value"


def test_a_second_up_changes_nothing(root: Path) -> None:
    assert real.up(root, print) == real.up(root, print)


def test_down_stops_these_two_and_not_those_of_the_checkout(root: Path, real_services: ServicesState) -> None:
    mine = real.up(root, print)
    assert len(real.down(root)) == 2
    assert not psutil.pid_exists(mine.kafka.pid)
    assert not psutil.pid_exists(mine.redis.pid)
    assert psutil.pid_exists(real_services.kafka.pid)
    assert psutil.pid_exists(real_services.redis.pid)
