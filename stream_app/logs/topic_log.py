"""Read topics as a log: their current records, by offsets or by time, in canonical order.

Reading leaves no trace at the broker: no consumer group, no committed offset. Only committed records are read (read_committed).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from stream_app.errors import BrokerUnavailableError, ConfigError
from stream_app.events import SOURCE_TOPICS
from stream_app.logs.ingest.sink import NullSink
from stream_app.logs.log_files import time_of
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_records import LABELS, TOPIC_CODES, LogRecord
from stream_app.logs.sorting import sorted_records

Range = tuple[int, int]  # offsets [from, to)

_BATCH: Final = 5_000
_POLL_S: Final = 0.5
_TIMEOUT_S: Final = 15.0
_SILENT_POLLS: Final = 60  # after 30 s without a record the broker is down, not slow


class TopicReader:
    """Reads partitions of topics; use it as a context.

    Args:
        bootstrap: The broker.
        prefix: Before every topic's name.
    """

    def __init__(self, bootstrap: str, prefix: str = "") -> None:
        self._bootstrap, self._prefix = bootstrap, prefix
        self._consumer: Any = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"replay-{secrets.token_hex(6)}",  # asked for by the client, never committed to
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 50,  # at the end of a topic there is nothing to wait for
                "logger": NullSink(),
            }
        )

    def __enter__(self) -> TopicReader:
        """Return itself."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the connection."""
        self._consumer.close()

    def ranges(
        self, topics: Sequence[str], since_ms: int | None = None, until_ms: int | None = None
    ) -> dict[tuple[str, int], Range]:
        """Return the current offset ranges of topics, by (topic, partition).

        Args:
            topics: Topics without prefix.
            since_ms: First timestamp to include.
            until_ms: First timestamp to exclude.

        Raises:
            BrokerUnavailableError: The broker does not answer.
            ConfigError: A topic does not exist.
        """
        try:
            known = self._consumer.list_topics(timeout=_TIMEOUT_S).topics
            missing = [self._prefix + topic for topic in topics if self._prefix + topic not in known]
            if missing:
                raise ConfigError(
                    f"the broker at {self._bootstrap} has no topics {', '.join(missing)}: correct kafka.topic_prefix"
                )
            places = [(topic, partition) for topic in topics for partition in sorted(known[self._prefix + topic].partitions)]
            watermarks = {place: self._watermarks(*place) for place in places}
            firsts, ends = self._at(since_ms, places), self._at(until_ms, places)
        except KafkaException as err:
            raise self._gone(err) from err
        return {
            place: (max(low, firsts.get(place, low)), min(high, ends.get(place, high)))
            for place, (low, high) in watermarks.items()
        }

    def read(self, ranges: Mapping[tuple[str, int], Range]) -> Iterator[tuple[str, Message]]:
        """Yield every record of the ranges with its topic (without prefix), in order within a partition.

        Raises:
            BrokerUnavailableError: The broker reports an error, or sends nothing for 30 s.
        """
        waiting = {place: end for place, (start, end) in ranges.items() if start < end}
        self._consumer.assign(
            [TopicPartition(self._prefix + topic, number, ranges[topic, number][0]) for topic, number in waiting]
        )
        silent = 0
        while waiting:
            try:
                messages = self._consumer.consume(_BATCH, _POLL_S)
            except KafkaException as err:
                raise self._gone(err) from err
            silent = 0 if messages else silent + 1
            if silent > _SILENT_POLLS:
                raise self._gone(f"nothing came for 30 s, and {sorted(waiting)} are not read to their ends")
            for message in messages:
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise self._gone(error)
                place = (message.topic().removeprefix(self._prefix), message.partition())
                if place not in waiting:
                    continue  # beyond the end of the range
                if error is None and message.offset() < waiting[place]:
                    yield place[0], message
                if error is not None or message.offset() + 1 >= waiting[place]:
                    del waiting[place]
        self._consumer.unassign()

    def _watermarks(self, topic: str, partition: int) -> Range:
        low, high = self._consumer.get_watermark_offsets(TopicPartition(self._prefix + topic, partition), timeout=_TIMEOUT_S)
        return int(low), int(high)

    def _at(self, time_ms: int | None, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the first offset at or after a time, by partition."""
        if time_ms is None:
            return {}
        queries = [TopicPartition(self._prefix + topic, partition, time_ms) for topic, partition in places]
        offsets = self._consumer.offsets_for_times(queries, timeout=_TIMEOUT_S)
        # A negative offset means the end: no record is that new.
        return {place: at.offset for place, at in zip(places, offsets, strict=True) if at.offset >= 0} | {
            place: 1 << 62 for place, at in zip(places, offsets, strict=True) if at.offset < 0
        }

    def _gone(self, reason: object) -> BrokerUnavailableError:
        return BrokerUnavailableError(
            f"reading from the broker at {self._bootstrap} failed: {reason}; check it with `millrace doctor`"
        )


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

    @staticmethod
    def topics() -> tuple[str, ...]:
        """Return the topics of a log."""
        return (*SOURCE_TOPICS, LABELS)

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
                if count % _BATCH == 0:
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
