"""The namespace of a run on shared services: topics, consumer group and state keys under a fresh name, removed afterwards.

Only names that start with the run's own are deleted; everything else on the services stays.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import redis
from confluent_kafka import admin as kafka_admin

from devservices.state import ServicesState
from stream_app.events import ANSWER_TOPICS, SIDE_TOPICS, SOURCE_TOPICS
from verification.harness.offsets import QUIET, Meter
from verification.harness.processes import ROOT, run_python

PARTITIONS = 8
ID_KEY = "a key of the benchmarks alone"  # known to the oracle, which hashes identifiers by itself
MODEL = ROOT / "model" / "artifacts" / "demo"
_SCAN = 2_000
_ASK_S = 30.0


@dataclass(frozen=True, slots=True)
class RunNamespace:
    """Names and settings of one run.

    Attributes:
        name: Unique; part of topic names, group and key prefix.
        services: Where Kafka and Redis are.
        folder: For logs of this run.
        extra: More `MILLRACE_` settings, for every process of the run.
        partitions: Of every topic.
    """

    name: str
    services: ServicesState
    folder: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    partitions: int = PARTITIONS

    @classmethod
    def fresh(
        cls,
        kind: str,
        services: ServicesState,
        root: Path,
        extra: Mapping[str, str] | None = None,
        *,
        partitions: int = PARTITIONS,
    ) -> RunNamespace:
        """Return an unused namespace; logs go to `root`/.services/logs/."""
        name = f"{kind}{uuid.uuid4().hex[:8]}"
        return cls(name, services, root / ".services" / "logs" / name, dict(extra or {}), partitions)

    @property
    def topic_prefix(self) -> str:
        """First part of every topic's name."""
        return f"{self.name}."

    def topic(self, name: str) -> str:
        """Return the topic's name at the broker."""
        return self.topic_prefix + name

    def settings(self) -> dict[str, str]:
        """Return the environment of this run's commands and workers."""
        return {
            "MILLRACE_KAFKA_BOOTSTRAP": self.services.kafka.bootstrap,
            "MILLRACE_KAFKA_GROUP": self.name,
            "MILLRACE_KAFKA_PARTITIONS": str(self.partitions),
            "MILLRACE_KAFKA_TOPIC_PREFIX": self.topic_prefix,
            "MILLRACE_REDIS_URL": self.services.redis.url,
            "MILLRACE_REDIS_PREFIX": self.name,
            "MILLRACE_PRIVACY_ID_KEY": ID_KEY,
            "MILLRACE_MODEL_PATH": str(MODEL),
            **self.extra,
        }

    def meter(self) -> Meter:
        """Return a reader of the end offsets of this run's topics."""
        return Meter(self.services.kafka.bootstrap, self.partitions)

    def create_topics(self) -> None:
        """Create all topics with the project's own command.

        Raises:
            FleetError: The command failed; the message has its output.
        """
        run_python(["stream_app", "topics", "create"], self.settings(), self.folder / "topics.log")

    def remove(self) -> None:
        """Delete the topics, the consumer group and the state keys of this run."""
        admin = kafka_admin.AdminClient({"bootstrap.servers": self.services.kafka.bootstrap, **QUIET})
        existing = set(admin.list_topics(timeout=_ASK_S).topics)
        ours = [self.topic(name) for name in (*SOURCE_TOPICS, *ANSWER_TOPICS, *SIDE_TOPICS)]
        present = [name for name in ours if name in existing]
        if present:
            for future in admin.delete_topics(present, operation_timeout=_ASK_S).values():
                future.result()
        with redis.Redis.from_url(self.services.redis.url) as client:
            batch = []
            for key in client.scan_iter(match=f"{self.name}:*", count=_SCAN):
                batch.append(key)
                if len(batch) >= _SCAN:
                    client.unlink(*batch)
                    batch.clear()
            if batch:
                client.unlink(*batch)
