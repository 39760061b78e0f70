"""Progress of a run by the end offsets of its topics, one request for a set of topics.

Counting by end offsets is cheap but counts repeats too, so it cannot show that nothing is missing;
`verification.harness.answer_audit` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka import admin as kafka_admin

Offsets: TypeAlias = dict[tuple[str, int], int]

QUIET = {"log_level": 2}  # silence librdkafka's lines about a broker that restarts
_ASK_S = 10.0


class Meter:
    """Reads end offsets from one broker, also across a restart of the broker."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._bootstrap = bootstrap
        self._partitions = partitions
        self._admin = self._connect()

    def ends(self, topics: Iterable[str]) -> Offsets:
        """Return the end offset of every partition of `topics`: the number of records written so far.

        Raises:
            KafkaException: The broker did not answer within 10 s.
        """
        names = list(topics)
        try:
            return self._ask(names)
        except KafkaException:
            # A client that outlives a restart of the broker keeps asking with the old leader epoch (librdkafka 2.11).
            self._admin = self._connect()
            return self._ask(names)

    def count(self, *topics: str) -> int | None:
        """Return how many records stand in `topics` altogether, or None while the broker does not answer."""
        try:
            return sum(self.ends(topics).values())
        except KafkaException:
            return None

    def _connect(self) -> kafka_admin.AdminClient:
        return kafka_admin.AdminClient({"bootstrap.servers": self._bootstrap, **QUIET})

    def _ask(self, topics: list[str]) -> Offsets:
        admin_api: Any = kafka_admin  # exports OffsetSpec without saying so
        latest = admin_api.OffsetSpec.latest()
        asked = {TopicPartition(topic, p): latest for topic in topics for p in range(self._partitions)}
        answers = self._admin.list_offsets(asked, request_timeout=_ASK_S)
        return {(where.topic, where.partition): future.result().offset for where, future in answers.items()}
