"""A record of a log, and the canonical order: by event time, then by the place of the record.

A place is three numbers: (topic, partition, offset) for records from Kafka, with topics in alphabetical order; (file, row, record
of the mapping) for rows of files without offsets. A record that is not an event is ordered by its timestamp.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from stream_app.events import SOURCE_TOPICS

LABELS: Final = "labels"
LOG_TOPICS: Final = (*SOURCE_TOPICS, LABELS)
TOPIC_CODES: Final = {topic: code for code, topic in enumerate(sorted(LOG_TOPICS))}


class LogRecord(Struct, frozen=True, order=True, array_like=True, gc=False):
    """A record of a source topic, or of `labels`; records compare in canonical order.

    Attributes:
        time_ms: Event time; for a label the time at which it became known; otherwise the record's timestamp.
        place: Orders records of equal time; unique within a log.
        topic: Topic without prefix.
        partition: Partition at the broker; for a row of a file the number of the file.
        offset: Offset at the broker; for a row of a file its number, counted over all records that a row may become.
        timestamp: The broker's timestamp in epoch ms; for a row of a file the event time.
    """

    time_ms: int
    place: tuple[int, int, int]
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = []


def at_broker(record: LogRecord) -> bool:
    """Whether the place is an offset at a broker, not a row of a file (rows count from 1, so the two never look alike)."""
    return record.place[1:] == (record.partition, record.offset)
