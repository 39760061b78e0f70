"""One record of a log, and the canonical order: by event time, then by where the record stands.

Where a record stands is three numbers: (topic, partition, offset) for records of Kafka, topics in alphabetical order; (file, row,
record of the mapping) for rows of files that name no offsets. Records that are no event are placed by their timestamp.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from stream_app.events import SOURCE_TOPICS

__all__ = ["LABELS", "TOPIC_CODES", "LogRecord", "at_broker"]

LABELS: Final = "labels"
TOPIC_CODES: Final = {topic: code for code, topic in enumerate(sorted((*SOURCE_TOPICS, LABELS)))}


class LogRecord(Struct, frozen=True, order=True, array_like=True, gc=False):
    """A record of a source topic, or of `labels`; records compare in canonical order.

    Attributes:
        time_ms: Event time; of a label, when it became known; of what is neither, the record's timestamp.
        place: Tells records of one time apart; no two records of a log have the same.
        topic: Without prefix.
        partition: At the broker; of a file's row the number of the file.
        offset: At the broker; of a file's row its number, counted through all records that a row may become.
        timestamp: The broker's, in epoch ms; of a file's row the event time.
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
    """Whether a record stands where a broker says, not in a row of a file (those count from 1, so none looks like that)."""
    return record.place[1:] == (record.partition, record.offset)
