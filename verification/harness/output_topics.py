"""Topics read whole, from the first record to the end offset of the moment, with no consumer group left behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from stream_app.admin.topic_reader import TopicReader
from verification.harness.offsets import Offsets


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """One record; `append_ms` is the broker's stamp of its append, -1 where the topic is not stamped so."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    append_ms: int


class OutputTopicReader(TopicReader):
    """A reader of topics that goes on from where it stood. Use it in a `with` block."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(bootstrap)
        self._position: Offsets = {}

    def read_to(
        self, ends: Mapping[tuple[str, int], int], start: Mapping[tuple[str, int], int] | None = None
    ) -> Iterator[OutputRecord]:
        """Yield every record of the partitions in `ends` up to these offsets (exclusive), in offset order a partition.

        The first time a partition is read from `start` (the beginning, if it is not there), later from where the last
        call ended; a call that is not read to its end counts as if it was.

        Raises:
            BrokerUnavailableError: The broker reports an error, or gives nothing for 30 s.
        """
        first = start or {}
        ranges = {where: (self._position.get(where, first.get(where, 0)), end) for where, end in ends.items()}
        self._position |= {where: max(span) for where, span in ranges.items()}
        for topic, message in self.read(ranges):
            yield _record(topic, message)


def _record(topic: str, message: Message) -> OutputRecord:
    (kind, at_ms), partition, offset = message.timestamp(), message.partition(), message.offset()
    assert partition is not None and offset is not None  # noqa: PT018  # a message that was read has both
    append_ms = at_ms if kind == TIMESTAMP_LOG_APPEND_TIME else -1
    return OutputRecord(topic, partition, offset, message.key() or b"", message.value() or b"", append_ms)
