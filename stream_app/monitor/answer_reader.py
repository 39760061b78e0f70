"""Reads the answers of running workers, from the end of the topics on, into a scoreboard."""

from __future__ import annotations

import secrets
import time
from collections import deque
from contextlib import AbstractContextManager
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stream_app.admin.broker import QuietLogger
from stream_app.admin.topic_reader import is_end, reading_failed
from stream_app.clock import Clock, SystemClock
from stream_app.errors import BrokerUnavailableError
from stream_app.events import ANSWER_TOPICS
from stream_app.monitor.scoreboard import Scoreboard, Summary

_WATCHED: Final = (*ANSWER_TOPICS, "dead-letters", "late-events", "labels")
_ONE_OUTCOME: Final = ("intent-labels", "dead-letters", "late-events")  # every event has exactly one record on one of these
_TIMEOUT_S: Final = 10.0
_RATE_OVER_S: Final = 5.0
_QUIET_S: Final = 1.5  # without a record for so long, the topics are read to their end


class AnswerReader(AbstractContextManager["AnswerReader"]):
    """A consumer of all answer and side topics; use it as a context manager.

    Args:
        bootstrap: The broker.
        label_delay_ms: Greatest delay of a label after its event.
        topic_prefix: Prefix of every topic.
        clock: The time at which a record is read.

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """

    def __init__(self, bootstrap: str, *, label_delay_ms: int, topic_prefix: str = "", clock: Clock | None = None) -> None:
        self.board = Scoreboard(label_delay_ms)
        self._clock = clock or SystemClock()
        self._bootstrap, self._prefix = bootstrap, topic_prefix
        self._error: KafkaError | None = None  # that no record reports
        self._seen: deque[tuple[float, int]] = deque()  # (time, count of events) of the last seconds
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"watch-{secrets.token_hex(4)}",
                "enable.auto.commit": False,
                "check.crcs": True,  # else damage to an uncompressed batch passes
                "fetch.wait.max.ms": 10,
                "error_cb": self._take_error,
                "logger": QuietLogger(),
            }
        )
        try:
            known = self._consumer.list_topics(timeout=_TIMEOUT_S).topics
            partitions = [
                TopicPartition(topic_prefix + name, partition, self._end(topic_prefix + name, partition))
                for name in _WATCHED
                if topic_prefix + name in known
                for partition in known[topic_prefix + name].partitions
            ]
            self._consumer.assign(partitions)
        except KafkaException as err:
            self._consumer.close()
            raise BrokerUnavailableError(f"no broker answers at {bootstrap}: {err}") from err

    def _take_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # of others the client recovers
            self._error = error

    def _end(self, topic: str, partition: int) -> int:
        return int(self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT_S)[1])

    def __exit__(self, *_exception: object) -> None:
        self._consumer.close()

    def read(self, seconds: float) -> int:
        """Read for so long; return the number of records.

        Raises:
            BrokerUnavailableError: The broker reports an error, or has ended.
            UnreadableBatchError: A batch of answers cannot be read.
        """
        end_s, count = time.monotonic() + seconds, 0
        while (left_s := end_s - time.monotonic()) > 0:
            records = self._consumer.consume(500, min(left_s, 0.1))
            if self._error is not None:
                raise reading_failed(self._bootstrap, self._error)
            now_ms, events = self._clock.now_ms(), 0
            for record in records:
                if not is_end(record, self._bootstrap):
                    topic = (record.topic() or "").removeprefix(self._prefix)
                    self.board.add(topic, record.value() or b"", now_ms)
                    events += topic in _ONE_OUTCOME
                    count += 1
            self._seen.append((time.monotonic(), events))
        return count

    def drain(self, patience_s: float) -> None:
        """Read until no record arrives for a moment, at most `patience_s`."""
        give_up_s = time.monotonic() + patience_s
        while self.read(_QUIET_S) and time.monotonic() < give_up_s:
            pass

    def rate(self) -> float:
        """Return the events per second of the last seconds."""
        now_s = time.monotonic()
        while self._seen and self._seen[0][0] < now_s - _RATE_OVER_S:
            self._seen.popleft()
        return sum(events for _, events in self._seen) / _RATE_OVER_S

    def summary(self) -> Summary:
        """Return the figures so far."""
        return self.board.summary(self._clock.now_ms())
