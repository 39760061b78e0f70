"""Read the current records of topics, by offsets or by time, or follow them.

Reading leaves no trace at the broker: no consumer group, no committed offset. Only committed records are read (read_committed).
librdkafka reads every compression codec of Kafka.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from stream_app.admin.broker import QuietLogger, require_listener
from stream_app.errors import BrokerUnavailableError, ConfigError, UnreadableBatchError

Range = tuple[int, int]  # offsets [from, to)

_BATCH: Final = 5_000
_POLL_S: Final = 0.5
_FOLLOW_S: Final = 0.2  # how long a record, or Ctrl-C, may wait where somebody follows
_TIMEOUT_S: Final = 15.0
_SILENT_POLLS: Final = 60  # after 30 s without a record the broker is down, not slow
_FOR_EVER: Final = 1 << 62  # above every offset
_UNREADABLE: Final = (KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError._NOT_IMPLEMENTED)


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
                "check.crcs": True,  # else damage to an uncompressed batch passes
                "fetch.wait.max.ms": 50,  # at the end of a topic there is nothing to wait for
                "logger": QuietLogger(),
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
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
        require_listener(self._bootstrap)
        try:
            known = self._consumer.list_topics(timeout=_TIMEOUT_S).topics
            missing = [self._prefix + topic for topic in topics if self._prefix + topic not in known]
            if missing:
                raise ConfigError(
                    f"the broker at {self._bootstrap} has no topics {', '.join(missing)}: create them with "
                    "`millrace topics create`, or correct kafka.topic_prefix"
                )
            places = [(topic, partition) for topic in topics for partition in sorted(known[self._prefix + topic].partitions)]
            watermarks = {place: self._watermarks(*place) for place in places}
            firsts, ends = self._at(since_ms, places), self._at(until_ms, places)
        except KafkaException as err:
            raise reading_failed(self._bootstrap, err) from err
        return {
            place: (max(low, firsts.get(place, low)), min(high, ends.get(place, high)))
            for place, (low, high) in watermarks.items()
        }

    def read(
        self, ranges: Mapping[tuple[str, int], Range], *, follow: bool = False
    ) -> Generator[tuple[str, Message], None, None]:
        """Yield every record of the ranges with its topic (without prefix), in order within a partition.

        Args:
            ranges: Offset ranges by (topic, partition), see `ranges`.
            follow: Go on behind the end of the ranges and wait for records, for ever.

        Raises:
            BrokerUnavailableError: The broker reports an error, or sends nothing for 30 s.
            UnreadableBatchError: A batch cannot be read.
        """
        if follow:
            ranges = {place: (start, _FOR_EVER) for place, (start, _) in ranges.items()}
        waiting = {place: end for place, (start, end) in ranges.items() if start < end}
        self._consumer.assign(
            [TopicPartition(self._prefix + topic, number, ranges[topic, number][0]) for topic, number in waiting]
        )
        silent = 0
        while waiting:
            try:
                messages = self._consumer.consume(_BATCH, _FOLLOW_S if follow else _POLL_S)
            except KafkaException as err:
                raise reading_failed(self._bootstrap, err) from err
            silent = 0 if messages else silent + 1
            if silent > _SILENT_POLLS and not follow:
                raise reading_failed(self._bootstrap, f"nothing came for 30 s, and {sorted(waiting)} are not read to their ends")
            for message in messages:
                at_end = is_end(message, self._bootstrap)
                place = (message.topic().removeprefix(self._prefix), message.partition())
                if place not in waiting or (at_end and follow):
                    continue  # beyond the end of the range, or at the present end of a topic that goes on
                if not at_end and message.offset() < waiting[place]:
                    yield place[0], message
                if at_end or message.offset() + 1 >= waiting[place]:
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
            place: _FOR_EVER for place, at in zip(places, offsets, strict=True) if at.offset < 0
        }


def is_end(message: Message, bootstrap: str) -> bool:
    """Return whether a message reports the end of its partition in place of a record.

    Raises:
        UnreadableBatchError: It reports a batch that cannot be read.
        BrokerUnavailableError: It reports any other error.
    """
    error = message.error()
    if error is None or error.code() == KafkaError._PARTITION_EOF:
        return error is not None
    if error.code() in _UNREADABLE:
        raise UnreadableBatchError(f"{message.topic()}-{message.partition()}", message.offset() or 0, error.str())
    raise reading_failed(bootstrap, error)


def reading_failed(bootstrap: str, reason: object) -> BrokerUnavailableError:
    """Return the error of a broker that stopped answering while its records were read."""
    return BrokerUnavailableError(f"reading from the broker at {bootstrap} failed: {reason}; check it with `millrace doctor`")
