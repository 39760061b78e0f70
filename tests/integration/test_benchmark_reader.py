"""The benchmarks' reader of topics remembers where it stood, on a real broker."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from tests.integration.transport_harness import create_topics
from verification.harness.output_topics import OutputTopicReader

pytestmark = [pytest.mark.kafka]


def test_a_topic_is_read_from_where_it_is_said_and_then_on_from_where_it_ended(kafka_bootstrap: str, topic_prefix: str) -> None:
    [topic] = create_topics(kafka_bootstrap, topic_prefix, count=1, partitions=2)
    producer = Producer({"bootstrap.servers": kafka_bootstrap})

    def write(numbers: range) -> None:
        for number in numbers:
            producer.produce(topic, str(number).encode(), key=b"k", partition=0)
        assert producer.flush(20) == 0

    write(range(10))
    with OutputTopicReader(kafka_bootstrap) as reader:
        first = list(reader.read_to({(topic, 0): 6, (topic, 1): 0}, {(topic, 0): 3}))
        assert [(record.partition, record.offset, record.value) for record in first] == [(0, 3, b"3"), (0, 4, b"4"), (0, 5, b"5")]
        write(range(10, 12))
        ends = {(topic, 0): 12, (topic, 1): 0}
        assert [record.value for record in reader.read_to(ends)] == [str(number).encode() for number in range(6, 12)]
        assert list(reader.read_to(ends)) == []
        assert list(reader.read_to({(topic, 0): 5})) == []  # behind where it stands
        assert list(reader.read_to(ends)) == []
