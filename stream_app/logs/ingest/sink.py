"""Write records to Kafka or to a file of JSON lines.

`send` only queues. When `flush` returns, the broker has acknowledged (or the file contains) every record sent before; a refused
record makes `flush`, or an earlier `send`, raise. Topic names are without prefix; the Kafka sink adds it.

The JSON lines are `{"topic", "key", "value", "time_ms"}`, with `value_base64` for a value that is not UTF-8 text.
"""

from __future__ import annotations

import base64
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from stream_app.admin.broker import QuietLogger
from stream_app.errors import BrokerUnavailableError, ConfigError, ContractError

_LINGER_MS: Final = 5  # enough to fill batches at high rates; bounds the delay of a live event
_CONNECT_S: Final = 10.0
_GIVE_UP_MS: Final = 120_000  # a restarting broker returns in seconds; a longer outage needs an operator
_QUEUE_RECORDS: Final = 100_000


class Sink(AbstractContextManager["Sink"]):
    """Receives records; leaving its context closes it."""

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @abstractmethod
    def send(self, topic: str, key: bytes, value: bytes, time_ms: int) -> None:
        """Queue one record. Blocks while the queue is full."""

    @abstractmethod
    def flush(self) -> None:
        """Wait until every record sent is acknowledged or written.

        Raises:
            BrokerUnavailableError: The broker did not acknowledge a record in time.
        """

    def position(self) -> int:
        """Return the position from which a later run resumes, after `flush`; 0 where none is needed, as with Kafka."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Release all resources without waiting for queued records."""


class KafkaSink(Sink):
    """Produces to Kafka: idempotent, acknowledged by all replicas, partitioned as Java clients and the workers do (murmur2).

    Args:
        bootstrap: Brokers, `host:port`, comma separated.
        topics: Topics to send to, without prefix; they must exist.
        prefix: Prefix of every topic name.

    Raises:
        BrokerUnavailableError: No broker answers.
        ContractError: A topic is missing.
    """

    def __init__(self, bootstrap: str, topics: Sequence[str], prefix: str = "") -> None:
        from confluent_kafka import Producer

        self._bootstrap = bootstrap
        self._names = {topic: prefix + topic for topic in topics}
        self._errors = 0
        self._first_error = ""
        self._producer: Any = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": _LINGER_MS,
                "acks": "all",
                "enable.idempotence": True,
                "message.timeout.ms": _GIVE_UP_MS,
                "queue.buffering.max.messages": _QUEUE_RECORDS,
                "delivery.report.only.error": True,  # saves a Python call for each success: 1 us per record
                "on_delivery": self._failed,
                "logger": QuietLogger(),  # librdkafka would write to stderr, over the progress bar
            }
        )
        self._check_topics()

    def send(self, topic: str, key: bytes, value: bytes, time_ms: int) -> None:
        """Queue one record; the broker sets its timestamp (LogAppendTime), so `time_ms` is unused."""
        while True:
            try:
                self._producer.produce(self._names[topic], value, key)
            except BufferError:
                self._producer.poll(0.1)
                self._raise_errors()
                continue
            return

    def flush(self) -> None:
        """Wait until the broker has acknowledged everything sent."""
        while self._producer.flush(0.5) and not self._errors:
            pass  # short waits, so that Ctrl-C works
        self._raise_errors()

    def close(self) -> None:
        """Drop queued records and close."""
        self._producer.purge()
        self._producer.flush(1.0)

    def _failed(self, error: object, _message: object) -> None:
        if error is not None:
            self._errors += 1
            self._first_error = self._first_error or str(error)

    def _raise_errors(self) -> None:
        if self._errors:
            raise BrokerUnavailableError(
                f"{self._errors} records were not acknowledged by {self._bootstrap}: {self._first_error}. "
                "Check the broker (`millrace doctor`) and run the command again"
            )

    def _check_topics(self) -> None:
        from confluent_kafka import KafkaException

        try:
            known = self._producer.list_topics(timeout=_CONNECT_S).topics
        except KafkaException as err:
            raise BrokerUnavailableError(
                f"no Kafka broker answers at {self._bootstrap} within {_CONNECT_S:.0f} s ({err.args[0].str()}). Start one "
                "with `millrace services up`, or name yours in MILLRACE_KAFKA_BOOTSTRAP"
            ) from err
        missing = [name for name in self._names.values() if name not in known]
        if missing:
            raise ContractError(
                f"the broker at {self._bootstrap} lacks the topics {', '.join(missing)}. "
                "Operator action: run `millrace topics create`"
            )


class JsonlSink(Sink):
    """Writes JSON lines to a file.

    Args:
        path: The file; its folder must exist.
        resume_at: None starts a new file; otherwise the file is cut to this length in bytes (a `position`) and continued.

    Raises:
        ConfigError: The file cannot be written, or is shorter than `resume_at`.
    """

    def __init__(self, path: Path, resume_at: int | None = None) -> None:
        try:
            self._file: BinaryIO = path.open("wb" if resume_at is None else "r+b")
        except OSError as err:
            raise ConfigError(f"cannot write {path}: {err.strerror}. Name a file in a folder that exists") from err
        if not self._file.seekable():
            self._file.close()
            raise ConfigError(f"cannot write {path}: it is a pipe, and an import that goes on cuts its file. Name a file")
        length = self._file.seek(0, 2)
        if resume_at is not None and length < resume_at:
            self._file.close()
            raise ConfigError(f"{path} has {length} bytes, less than the {resume_at} of its import. Use --restart")
        self._file.seek(resume_at or 0)
        self._file.truncate()
        self._encode = msgspec.json.Encoder().encode

    def send(self, topic: str, key: bytes, value: bytes, time_ms: int) -> None:
        """Write one line."""
        line: dict[str, object] = {"topic": topic, "key": key.decode()}
        try:
            line["value"] = value.decode()
        except UnicodeDecodeError:
            line["value_base64"] = base64.b64encode(value).decode()
        line["time_ms"] = time_ms
        try:
            self._file.write(self._encode(line) + b"\n")
        except OSError as err:
            raise self._not_written(err) from err

    def flush(self) -> None:
        """Hand everything to the operating system."""
        try:
            self._file.flush()
        except OSError as err:
            raise self._not_written(err) from err

    def position(self) -> int:
        """Return the file's length in bytes."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as err:
            raise self._not_written(err) from err

    def _not_written(self, err: OSError) -> ConfigError:
        return ConfigError(f"cannot write {self._file.name}: {err.strerror}. Make room, then give the same command: it goes on")
