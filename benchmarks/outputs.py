"""Topics read whole, from the first record to the end offset of the moment, with no consumer group left behind."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException, Message, TopicPartition

from benchmarks.offsets import QUIET, Offsets

__all__ = ["Record", "TopicReader"]

T = TypeVar("T")

_BATCH = 2_000
_POLL_S = 0.5
_PATIENCE_POLLS = 60  # 30 s without one record before the end offset: the broker is gone, not slow


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `append_ms` is the broker's stamp of its append, -1 where the topic is not stamped so."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    append_ms: int


class TopicReader:
    """Reads partitions on from where it stood; `close` it, or use it in a `with` block.

    It reads committed records only, as a subscriber should.
    """

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"reader-{uuid.uuid4().hex[:12]}",  # asked for by the client, never committed to
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 50,  # at the end of a topic there is nothing to wait for
                **QUIET,
            }
        )
        self._position: Offsets = {}

    def __enter__(self) -> TopicReader:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def read_to(
        self, ends: Mapping[tuple[str, int], int], start: Mapping[tuple[str, int], int] | None = None
    ) -> Iterator[Record]:
        """Yield every record of the partitions in `ends` up to these offsets (exclusive), in offset order a partition.

        The first time a partition is read from `start` (the beginning, if it is not there), later from where the last
        call ended.

        Raises:
            KafkaException: The broker reports an error, or gives nothing for 30 s.
        """
        first = start or {}
        open_partitions = {}
        for where, end in ends.items():
            self._position.setdefault(where, first.get(where, 0))
            if self._position[where] < end:
                open_partitions[where] = end
        self._consumer.assign([TopicPartition(*where, self._position[where]) for where in open_partitions])
        silent = 0
        while open_partitions:
            messages = self._consumer.consume(_BATCH, _POLL_S)
            silent = 0 if messages else silent + 1
            if silent > _PATIENCE_POLLS:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no record from {sorted(open_partitions)}"))
            yield from self._accepted(messages, open_partitions)
        self._consumer.unassign()

    def _accepted(self, messages: list[Message], open_partitions: dict[tuple[str, int], int]) -> Iterator[Record]:
        for message in messages:
            where = _where(message)
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            if where not in open_partitions:
                continue  # beyond the end that was asked for
            offset = _known(message.offset())
            if error is None and offset < open_partitions[where]:
                self._position[where] = offset + 1
                yield _record(message)
            if error is not None or offset + 1 >= open_partitions[where]:
                # At the end of the partition, or of what was asked for (control records have offsets and no message).
                self._position[where] = open_partitions.pop(where)


def _record(message: Message) -> Record:
    kind, at_ms = message.timestamp()
    return Record(
        *_where(message),
        _known(message.offset()),
        message.key() or b"",
        message.value() or b"",
        at_ms if kind == TIMESTAMP_LOG_APPEND_TIME else -1,
    )


def _where(message: Message) -> tuple[str, int]:
    return _known(message.topic()), _known(message.partition())


def _known(value: T | None) -> T:
    # The client types every accessor as optional; a message that came from a partition has them all.
    assert value is not None
    return value
