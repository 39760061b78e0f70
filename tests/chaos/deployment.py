"""The whole system under test: its topics on the real broker, its keys on the real Redis, its worker processes, and the verdict.

Events go through the real topics; `oracle` gives the verdict: state counts each event once, no answer is missing, repeated
answers have the same bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from stream_app import wiring
from stream_app.admin.broker import connect
from stream_app.admin.topics import create_topics, plan_topics
from stream_app.config import KafkaSettings, ModelSettings, RedisSettings, Settings, WorkerSettings, environ_from
from stream_app.events import SOURCE_TOPICS, Event
from stream_app.store.redis_store import RedisStore
from tests.chaos.oracle import AnswerLog, check_answers, check_journal, check_states
from tests.chaos.redis_past import Snapshot, restore
from tests.integration.transport_harness import kill_all, start_worker, until
from tests.scoring import make_events, record_of, scoring_engine, topic_of

__all__ = ["PARTITIONS", "Deployment"]

PARTITIONS: Final = 4
_USERS: Final = [f"u-{number}" for number in range(40)]
_ANSWERS: Final = ("intent-labels", "recommendation-candidates", "fraud-alerts", "journal")


@dataclass
class Deployment:
    """Everything under one topic prefix and one Redis prefix."""

    bootstrap: str
    redis_url: str
    topic_prefix: str
    redis_prefix: str
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    events: dict[str, Event] = field(default_factory=dict)  # by the id of their answers
    answers: AnswerLog = field(default_factory=list)  # read so far
    seeds: int = 0
    decided_again: bool = False

    def __post_init__(self) -> None:
        self.settings = Settings(
            kafka=KafkaSettings(
                bootstrap=self.bootstrap,
                group=f"{self.topic_prefix}group",
                partitions=PARTITIONS,
                session_timeout_ms=6_000,
                topic_prefix=self.topic_prefix,
            ),
            redis=RedisSettings(url=self.redis_url, prefix=self.redis_prefix),
            worker=WorkerSettings(chunk_events=10, batch_events=40, web_port=0),
            model=ModelSettings(engine="none"),
        )
        self._producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5})
        with connect(self.bootstrap) as admin:
            create_topics(admin, plan_topics(PARTITIONS, prefix=self.topic_prefix))
        self._consumer = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": uuid.uuid4().hex, "enable.auto.commit": False}
        )
        places = [(self.topic_prefix + topic, group) for topic in _ANSWERS for group in range(PARTITIONS)]
        self._consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in places])

    # --- events in --------------------------------------------------------------------------------------------------------

    def produce(self, count: int) -> None:
        """Append `count` events and wait until the broker has them."""
        self._send(self._producer, self._draw(count), keep=True)

    def produce_in_transaction(self, count: int, *, commit: bool) -> None:
        """Append `count` events in a transaction, and commit or abort it."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "transactional.id": uuid.uuid4().hex})
        producer.init_transactions(30)
        producer.begin_transaction()
        self._send(producer, self._draw(count), keep=commit)
        if commit:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)

    def _draw(self, count: int) -> list[Event]:
        self.seeds += 1
        return make_events(count, users=_USERS, devices=[f"d-{number}" for number in range(7)], seed=self.seeds)

    def _send(self, producer: Producer, events: Sequence[Event], *, keep: bool) -> None:
        landed = 0

        def delivered(event: Event) -> Callable[[KafkaError | None, Message], None]:
            def note(error: KafkaError | None, message: Message) -> None:
                nonlocal landed
                if error is not None:
                    raise KafkaException(error)
                landed += 1
                if keep:
                    self.events[f"{topic_of(event)}-{message.partition()}-{message.offset()}"] = event

            return note

        for event in events:
            group = _USERS.index(event.user) % PARTITIONS
            record = record_of(event, group, 0)
            topic = self.topic_prefix + record.topic
            producer.produce(topic, record.value, key=record.key, partition=group, on_delivery=delivered(event))
            producer.poll(0)
        assert producer.flush(30) == 0
        assert landed == len(events)

    # --- workers ----------------------------------------------------------------------------------------------------------

    def start(self, **chaos: Any) -> subprocess.Popen[bytes]:
        """Start one more worker process; `chaos_worker` says what may be wrong with it, `instance` makes it a static member."""
        environment = {**environ_from(self.settings), "MILLRACE_WORKER_INSTANCE": chaos.pop("instance", "")}
        log = self.log(len(self.workers))
        worker = start_worker("tests.chaos.chaos_worker", json.dumps(chaos), log, self.folder, environment)
        self.workers.append(worker)
        return worker

    def log(self, number: int) -> Path:
        """Log of the worker started as number `number`, from 0."""
        return self.folder / f"worker-{number}.log"

    def stop_all(self) -> None:
        """Kill what still runs, and leave the broker."""
        kill_all(self.workers)
        self._consumer.close()

    # --- answers out, and the verdict -------------------------------------------------------------------------------------

    def answered(self) -> int:
        """How many events have an answer; reads what has come since."""
        for message in self._consumer.consume(10_000, 0.2):
            if message.error():
                raise KafkaException(message.error())
            topic, partition, value = message.topic(), message.partition(), message.value()
            assert topic is not None
            assert partition is not None
            assert isinstance(value, bytes)
            key = message.key()
            assert key is None or isinstance(key, bytes)
            self.answers.append((topic.removeprefix(self.topic_prefix), partition, key, value))
        return len({json.loads(value)["answer_id"] for topic, _, _, value in self.answers if topic == "intent-labels"})

    def go_back(self, taken: Snapshot) -> None:
        """Redis goes back to `taken`; what it forgets will be decided a second time."""
        restore(self.redis_url, self.redis_prefix, taken)
        self.decided_again = True

    def settle(self, *, patience_s: float = 60.0) -> None:
        """Wait until every event is answered, stop the workers in good order, and give the verdict."""
        until(lambda: self.answered() >= len(self.events), f"{len(self.events)} events answered", patience_s)
        for worker in self.workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in self.workers:
            worker.wait(30)
        self.answered()
        self.check()

    def check(self) -> None:
        """Assert the guarantee on what Redis and the answer topics hold."""
        asyncio.run(self._check_state())
        check_answers(self.events, self.answers, decided_again=self.decided_again)

    def check_journal(self) -> None:
        """Assert that the journal covers the logs once, markers and aborted records included."""
        ends = {(topic, group): front for (topic, group), front in self.fronts().items()}
        check_journal(ends, self.answers)

    def fronts(self) -> Mapping[tuple[str, int], int]:
        """The store's fronts by topic and group."""
        fronts: dict[tuple[str, int], int] = {}
        with redis.Redis.from_url(self.redis_url) as client:
            for group in range(PARTITIONS):
                for topic in SOURCE_TOPICS:
                    front: Any = client.hget(f"{self.redis_prefix}:{{g{group}}}:meta", f"front:{topic}")
                    if front is not None:
                        fronts[topic, group] = int(front)
        return fronts

    def commits(self) -> int:
        """How many steps the store has applied."""
        with redis.Redis.from_url(self.redis_url) as client:
            values: Any = client.mget([f"{self.redis_prefix}:{{g{group}}}:commit" for group in range(PARTITIONS)])
        return sum(int(value or 0) for value in values)

    async def _check_state(self) -> None:
        engine = scoring_engine()
        owned = ((event, int(answer.split("-")[1])) for answer, event in self.events.items())
        store = RedisStore(self.redis_url, prefix=self.redis_prefix, groups=PARTITIONS, shared_kinds=wiring.shared_kinds(engine))
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(store.close)
            await check_states(store, engine, self.settings.privacy.id_key.get_secret_value().encode(), owned, PARTITIONS)
