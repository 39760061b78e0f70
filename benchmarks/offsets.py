"""How far a run is: end offsets of topics, asked for in one request a topic set.

Counting by end offsets is cheap and counts repeats too, so it says where a run is, never that nothing is missing: that
is `benchmarks.ledger`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka import admin as kafka_admin

__all__ = ["QUIET", "Offsets", "end_offsets", "record_count"]

Offsets: TypeAlias = dict[tuple[str, int], int]

_ASK_S = 10.0
QUIET = {"log_level": 2}  # librdkafka's remarks on a broker that restarts say nothing that the run does not


def end_offsets(admin: kafka_admin.AdminClient, topics: Iterable[str], partitions: int) -> Offsets:
    """Return the end offset of every partition of `topics`: the number of records written so far.

    Raises:
        KafkaException: The broker did not answer within 10 s.
    """
    admin_api: Any = kafka_admin  # exports OffsetSpec without saying so
    asked = {TopicPartition(topic, p): admin_api.OffsetSpec.latest() for topic in topics for p in range(partitions)}
    answers = admin.list_offsets(asked, request_timeout=_ASK_S)
    return {(where.topic, where.partition): future.result().offset for where, future in answers.items()}


def record_count(admin: kafka_admin.AdminClient, topics: Iterable[str], partitions: int) -> int | None:
    """Return how many records stand in `topics` altogether, or None while the broker does not answer."""
    try:
        return sum(end_offsets(admin, topics, partitions).values())
    except KafkaException:
        return None
