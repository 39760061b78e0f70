"""The source topics as a log, in canonical order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from confluent_kafka import Message

from stream_app.admin.topic_reader import Range, TopicReader
from stream_app.logs.log_files import time_of
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_records import TOPIC_CODES, LogRecord
from stream_app.logs.sorting import sorted_records

_PROGRESS_EVERY = 5_000  # records


class TopicLog:
    """The source topics (and `labels`) as one log.

    Args:
        bootstrap: The broker.
        prefix: Prefix of every topic name.
        ranges: Offset ranges by (topic, partition); see `TopicReader.ranges`.
        problems: Collects issues.
        progress: Receives the progress of reading as text.
    """

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        ranges: Mapping[tuple[str, int], Range],
        problems: LogIssues,
        progress: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.problems = problems
        self.total: int | None = None
        self._bootstrap, self._prefix, self._ranges, self._progress = bootstrap, prefix, dict(ranges), progress

    def records(self) -> Iterator[LogRecord]:
        """Yield all records in canonical order."""
        return sorted_records(self._read())

    def where(self, record: LogRecord) -> tuple[str, str]:
        """Return the partition and the offset."""
        return f"{self._prefix}{record.topic}-{record.partition}", f"offset {record.offset}"

    def identity(self) -> list[str]:
        """Return broker, prefix and ranges."""
        return [self._bootstrap, self._prefix, *(f"{place} {span}" for place, span in sorted(self._ranges.items()))]

    def _read(self) -> Iterator[LogRecord]:
        count, total = 0, sum(max(0, end - start) for start, end in self._ranges.values())
        with TopicReader(self._bootstrap, self._prefix) as reader:
            for topic, message in reader.read(self._ranges):
                count += 1
                if count % _PROGRESS_EVERY == 0:
                    self._progress(f"reading topics, {count / total:.0%}")
                yield record_of(topic, message)
        self.total = count


def record_of(topic: str, message: Message) -> LogRecord:
    """Return a message as a record of `topic` (without prefix)."""
    partition, offset = message.partition() or 0, message.offset() or 0
    timestamp, value = message.timestamp()[1], _bytes(message.value())
    headers = [(str(name), _bytes(header)) for name, header in list(message.headers() or [])]
    return LogRecord(
        time_of(topic, value, timestamp), (TOPIC_CODES.get(topic, len(TOPIC_CODES)), partition, offset), topic, partition, offset,
        timestamp, _bytes(message.key()), value, headers,
    )  # fmt: skip


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
