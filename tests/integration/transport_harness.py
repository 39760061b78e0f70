"""The harness of the transport's fault tests: a subject under test, its processes, its input records, and the count of
applied ones.

The tests say what is done to the workers; a `Subject` says how a worker is started and what it has applied.
`SqliteSubject` is the small worker of `transport_worker.py`; another subject (the whole worker, judged by its answers)
runs the same tests.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from devservices.kafka_broker import VERSION
from tests.integration.transport_worker import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "Place",
    "SqliteSubject",
    "Subject",
    "committed",
    "create_topics",
    "kill_all",
    "produce",
    "produce_aborted",
    "produce_committed",
    "settle",
    "share_jars",
    "start_worker",
    "until",
]

PARTITIONS = 4
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


def share_jars(root: Path) -> None:
    """Give a folder that is to have servers of its own the checkout's jars, so that nothing is fetched twice."""
    (root / ".services").mkdir()
    (root / ".services" / f"kafka-{VERSION}").symlink_to(ROOT / ".services" / f"kafka-{VERSION}")


class Place(NamedTuple):
    """Coordinates of one record."""

    topic: str
    partition: int
    offset: int


class Subject(Protocol):
    """A worker under test, as many processes of it as are started."""

    bootstrap: str
    group: str
    topics: tuple[str, ...]

    def start(self, **changes: Any) -> subprocess.Popen[bytes]:
        """Start one more worker process; `changes` are the subject's own (delay_s, instance, ...)."""
        ...

    def applied(self) -> Counter[Place]:
        """How often each record was applied, by whichever worker."""
        ...

    def applied_by(self, worker: subprocess.Popen[bytes]) -> int:
        """How many records this process has applied."""
        ...

    def stop_all(self) -> None:
        """End every process that was started and still runs."""
        ...


@dataclass
class SqliteSubject:
    """The small worker over a SQLite file in `folder`."""

    bootstrap: str
    group: str
    topics: tuple[str, ...]
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Before any worker: two that change a new file to WAL at the same time lock each other out, whatever their timeout.
        open_store(str(self.store)).close()

    @property
    def store(self) -> Path:
        """The store's file."""
        return self.folder / "store.sqlite"

    def start(self, **changes: Any) -> subprocess.Popen[bytes]:
        """Start a worker; changes: delay_s, fence, die_in, instance, and any of `AgentOptions` in `options`."""
        options = {"session_timeout_ms": 6_000, **self.options, **changes.pop("options", {})}
        settings = {"store": str(self.store), "bootstrap": self.bootstrap, "group": self.group, "topics": self.topics}
        argument = json.dumps({**settings, "options": options, **changes})
        worker = start_worker(
            "tests.integration.transport_worker", argument, self.log(len(self.workers)), ROOT, {"TMPDIR": str(self.folder)}
        )
        self.workers.append(worker)
        return worker

    def log(self, number: int) -> Path:
        """Log of the worker started as number `number`, from 0."""
        return self.folder / f"worker-{number}.log"

    def applied(self) -> Counter[Place]:
        """Count the rows of the store's log."""
        rows = self._query("SELECT topic, part, pos, count(*) FROM applied GROUP BY topic, part, pos")
        return Counter({Place(topic, part, pos): count for topic, part, pos, count in rows})

    def applied_by(self, worker: subprocess.Popen[bytes]) -> int:
        """Count this process's rows."""
        return int(sum(row[0] for row in self._query(f"SELECT count(*) FROM applied WHERE pid = {worker.pid}")))

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        if not self.store.exists():
            return []
        store = sqlite3.connect(self.store, timeout=30)
        try:
            return store.execute(statement).fetchall()
        except sqlite3.OperationalError:  # the first worker has not made the tables yet
            return []
        finally:
            store.close()

    def stop_all(self) -> None:
        """Kill what still runs."""
        kill_all(self.workers)


def start_worker(module: str, argument: str, log: Path, cwd: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `python -m module argument` in `cwd`, with `environment` over this process's; what it writes goes to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, argument],
            cwd=cwd,
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        )


def kill_all(workers: Iterable[subprocess.Popen[bytes]]) -> None:
    """Kill those that still run, also one that was stopped by a signal, and wait for each."""
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signal.SIGCONT)
            worker.kill()
        worker.wait()


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Poll until the condition holds; fail the test when it does not in time."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience_s:.0f} s: {what}"
        time.sleep(0.1)


def settle(subject: Subject, expected: Iterable[Place], patience_s: float = PATIENCE_S) -> None:
    """Wait until everything expected is applied; then assert that nothing is missing, double or foreign."""
    wanted = set(expected)
    until(lambda: wanted <= subject.applied().keys(), f"{len(wanted)} records applied", patience_s)
    applied = subject.applied()
    assert {place: count for place, count in applied.items() if count > 1} == {}
    assert sorted(applied.keys() - wanted) == []


def create_topics(bootstrap: str, prefix: str, count: int = 3, partitions: int = PARTITIONS) -> tuple[str, ...]:
    """Create topics `<prefix>0`, `<prefix>1`, ... and wait until their partitions are known."""
    names = tuple(f"{prefix}{number}" for number in range(count))
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, partitions, 1) for name in names]).values():
        future.result(timeout=30)

    def led() -> bool:
        known = admin.list_topics(timeout=10).topics
        return all(name in known and len(known[name].partitions) == partitions for name in names)

    until(led, "topics have partitions")
    return names


def produce(
    bootstrap: str, topics: Sequence[str], count: int, *, partitions: int = PARTITIONS, codec: str = "none"
) -> list[Place]:
    """Append `count` records, spread over topics and partitions; return where they landed."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "compression.type": codec})
    return _send(producer, topics, count, partitions)


def produce_aborted(bootstrap: str, topics: Sequence[str], count: int, *, partitions: int = PARTITIONS) -> None:
    """Append `count` records in a transaction and abort it."""
    producer = _transactional(bootstrap)
    _send(producer, topics, count, partitions)
    producer.abort_transaction(30)


def produce_committed(bootstrap: str, topics: Sequence[str], count: int, *, partitions: int = PARTITIONS) -> list[Place]:
    """Append `count` records in a transaction and commit it."""
    producer = _transactional(bootstrap)
    places = _send(producer, topics, count, partitions)
    producer.commit_transaction(30)
    return places


def _transactional(bootstrap: str) -> Producer:
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": uuid.uuid4().hex, "linger.ms": 5})
    producer.init_transactions(30)
    producer.begin_transaction()
    return producer


def _send(producer: Producer, topics: Sequence[str], count: int, partitions: int) -> list[Place]:
    places: list[Place] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise KafkaException(error)
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None
        assert partition is not None
        assert offset is not None
        places.append(Place(topic, partition, offset))

    for number in range(count):
        topic, partition = topics[number % len(topics)], number // len(topics) % partitions
        producer.produce(topic, b"%d" % number, key=b"%d" % partition, partition=partition, on_delivery=delivered)
        producer.poll(0)
    assert producer.flush(60) == 0
    assert len(places) == count
    return places


def committed(bootstrap: str, group: str, topics: Sequence[str], partitions: int = PARTITIONS) -> dict[tuple[str, int], int]:
    """The group's committed offset of each partition that has one."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    try:
        places = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
        return {(tp.topic, tp.partition): tp.offset for tp in consumer.committed(places, timeout=30) if tp.offset >= 0}
    finally:
        consumer.close()
