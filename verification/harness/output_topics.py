"""Topics read whole, from the first record to the end offset of the moment, with no consumer group left behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from stream_app.admin.topic_reader import TopicReader
from verification.harness.offsets import Offsets

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """One record; `append_ms` is the broker's stamp of its append, -1 where the topic is not stamped so."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    append_ms: int


class OutputTopicReader:
    """Reads partitions on from where it stood: `stream_app.admin.topic_reader`, that remembers. Use it in a `with` block."""

    def __init__(self, bootstrap: str) -> None:
        self._reader = TopicReader(bootstrap)
        self._position: Offsets = {}

    def __enter__(self) -> OutputTopicReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._reader.__exit__(*exception)

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
        for _, message in self._reader.read(ranges):
            yield _record(message)


def _record(message: Message) -> OutputRecord:
    kind, at_ms = message.timestamp()
    return OutputRecord(
        _known(message.topic()),
        _known(message.partition()),
        _known(message.offset()),
        message.key() or b"",
        message.value() or b"",
        at_ms if kind == TIMESTAMP_LOG_APPEND_TIME else -1,
    )


def _known(value: T | None) -> T:
    # The client types every accessor as optional; a message that came from a partition has them all.
    assert value is not None
    return value
