from __future__ import annotations

import logging
import zlib

import pytest
from aiokafka.partitioner import DefaultPartitioner
from prometheus_client import CollectorRegistry

from stream_app.agents.partitioner import PartitionerWatch
from stream_app.codec.key_partition import PartitionerSample, partition_of
from stream_app.metrics import Metrics
from tests.scoring import Record

PARTITIONS = 8
KEYS = [b"u-%d" % number for number in range(8_000)]


def by_crc(key: bytes) -> int:
    return zlib.crc32(key) % PARTITIONS


def by_murmur2(key: bytes) -> int:
    return partition_of(key, PARTITIONS)


def fault_of(*records: tuple[str, bytes, int]) -> str | None:
    sample = PartitionerSample(PARTITIONS)
    for offset, (topic, key, partition) in enumerate(records):
        sample.add(topic, partition, offset, key)
    return sample.fault()


def test_the_partition_is_the_one_that_the_client_chooses() -> None:
    choose = DefaultPartitioner()
    assert [by_murmur2(key) for key in KEYS] == [choose(key, list(range(PARTITIONS)), []) for key in KEYS]


@pytest.mark.parametrize("chosen", [by_murmur2, by_crc])
def test_one_way_is_no_fault_whichever_it_is(chosen: object) -> None:
    assert callable(chosen)
    assert fault_of(*((topic, key, chosen(key)) for topic in ("clicks", "orders") for key in KEYS)) is None


def test_a_user_in_two_partitions_is_named_by_places() -> None:
    split = [key for key in KEYS if by_crc(key) != by_murmur2(key)]
    fault = fault_of(*(("clicks", key, by_murmur2(key)) for key in split), *(("orders", key, by_crc(key)) for key in split))
    assert fault is not None
    assert "a user is in two partitions: records clicks-" in fault
    assert "orders-" in fault
    assert "u-" not in fault


def test_two_ways_for_different_users_are_noticed_without_a_user_in_both() -> None:
    fault = fault_of(*(("clicks", key, (by_murmur2 if number % 4 else by_crc)(key)) for number, key in enumerate(KEYS)))
    assert fault is not None
    assert "sampled records are not in the partition of their key by murmur2, the others are" in fault


def test_keys_are_forgotten_and_records_without_one_are_left_out() -> None:
    sample = PartitionerSample(1)
    for number in range(200_000):
        sample.add("clicks", 0, number, b"%d" % number)
    assert sample.add("clicks", 0, 0, None) is None
    assert len(sample._seen) <= 4_096
    assert sample.fault() is None


def test_the_watch_counts_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    watch = PartitionerWatch(PARTITIONS, Metrics(registry))
    for _ in range(2):
        for chosen in (by_murmur2, by_crc):
            watch.look(("clicks", Record("clicks", chosen(key), 7, 0, key, b"")) for key in KEYS)
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "producers choose partitions in different ways" in warning
    counted = [
        registry.get_sample_value("millrace_partitioner_samples_total", {"topic": "clicks", "partitioner": kind}) or 0
        for kind in ("murmur2", "other")
    ]
    assert min(counted) > 100
    assert registry.get_sample_value("millrace_partitioners_differ") == 1
