"""A shop whose events a real worker answers: its topics on the real broker, its state in the real Redis, the worker's process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from stream_app import wiring
from stream_app.admin.broker import connect
from stream_app.admin.forget import group_of
from stream_app.admin.topics import create_topics, plan_topics
from stream_app.config import KafkaSettings, ModelSettings, RedisSettings, Settings, environ_from
from stream_app.events import ANSWER_TOPICS, Event
from stream_app.features.columns.event_columns import EntityRows
from stream_app.privacy import Pseudonymizer
from tests.integration.transport_harness import until
from tests.scoring import record_of, scoring_engine, topic_of

__all__ = ["PARTITIONS", "LiveShop"]

PARTITIONS: Final = 2
_ROOT: Final = Path(__file__).resolve().parents[2]


class LiveShop:
    """Events in, answers out. Everything bears the test's own prefixes; `stop` it."""

    def __init__(self, bootstrap: str, redis: RedisSettings, topic_prefix: str, folder: Path) -> None:
        self.settings = Settings(
            kafka=KafkaSettings(
                bootstrap=bootstrap,
                group=f"{topic_prefix}g",
                partitions=PARTITIONS,
                session_timeout_ms=6_000,
                topic_prefix=topic_prefix,
            ),
            redis=redis,
            model=ModelSettings(engine="none"),
        )
        with connect(bootstrap) as admin:
            create_topics(admin, plan_topics(PARTITIONS, prefix=topic_prefix))
        self._producer = Producer({"bootstrap.servers": bootstrap})
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex})
        topics = [self.settings.topic(name) for name in (*ANSWER_TOPICS, "journal")]
        self._consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for topic in topics for p in range(PARTITIONS)])
        self._folder = folder
        self.answers: dict[str, dict[str, dict[str, Any]]] = {}  # answer id -> topic -> message
        self.journal: list[dict[str, Any]] = []
        self._worker: subprocess.Popen[bytes] | None = None

    # --- the worker -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the worker."""
        with self._log.open("ab") as output:
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "stream_app", "worker"], cwd=self._folder, env=self.environ(), stdout=output, stderr=output
            )

    def end(self) -> None:
        """Stop the worker in good order."""
        assert self._worker is not None
        self._worker.send_signal(signal.SIGTERM)
        assert self._worker.wait(30) == 0, self._said()

    def stop(self) -> None:
        """Leave nothing behind."""
        if self._worker is not None and self._worker.poll() is None:
            self._worker.kill()
            self._worker.wait()
        self._consumer.close()

    def environ(self) -> dict[str, str]:
        """What a command of this shop finds its settings in."""
        return {**os.environ, **environ_from(self.settings), "PYTHONPATH": str(_ROOT)}

    @property
    def _log(self) -> Path:
        return self._folder / "worker.log"

    def _said(self) -> str:
        return f"the worker's log ends:\n{self._log.read_text()[-3_000:]}"

    # --- events and answers -----------------------------------------------------------------------------------------------

    def send(self, events: Sequence[Event]) -> list[str]:
        """Append events, each in its user's partition; returns the ids of their answers once the broker has them."""
        ids: list[str] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                raise KafkaException(error)
            topic = str(message.topic()).removeprefix(self.settings.kafka.topic_prefix)
            ids.append(f"{topic}-{message.partition()}-{message.offset()}")

        for event in events:  # one by one, so that the ids come in their order
            group = group_of(event.user, PARTITIONS)
            record = record_of(event, group, 0)
            self._producer.produce(self.settings.topic(topic_of(event)), record.value, record.key, group, delivered)
            assert self._producer.flush(30) == 0
        return ids

    def hears(self, ids: Sequence[str]) -> bool:
        """Read on; tell whether all of these were answered."""
        assert self._worker is None or self._worker.poll() is None, self._said()
        for message in self._consumer.consume(1_000, 0.2):
            if message.error():
                raise KafkaException(message.error())
            value, topic = message.value(), str(message.topic()).removeprefix(self.settings.kafka.topic_prefix)
            assert isinstance(value, bytes)
            said = json.loads(value)
            if topic == "journal":
                self.journal.append(said)
            else:
                self.answers.setdefault(said["answer_id"], {})[topic] = said
        wanted = {"intent-labels", "recommendation-candidates"}
        return all(wanted <= set(self.answers.get(identifier, ())) for identifier in ids)

    def answered(self, events: Sequence[Event]) -> list[str]:
        """Send events and wait for their answers; returns the ids."""
        ids = self.send(events)
        until(lambda: self.hears(ids), "the events are answered")
        return ids

    # --- state ------------------------------------------------------------------------------------------------------------

    def digest(self, kind: str, entity: str) -> bytes:
        """The entity's key in the state."""
        return Pseudonymizer(self.settings.privacy.id_key.get_secret_value().encode()).digest(kind, entity)

    def state(self, kind: str, entity: str, group: int) -> dict[str, Any]:
        """What the group holds of the entity."""

        async def read() -> bytes:
            store = wiring.build_store(self.settings, wiring.shared_kinds(scoring_engine()))
            try:
                rows = EntityRows(np.array([group], np.int32), [self.digest(kind, entity)], np.zeros(1, np.int32))
                return (await store.read({kind: rows})).own[kind][0]
            finally:
                await store.close()

        return scoring_engine().describe(kind, asyncio.run(read()))
