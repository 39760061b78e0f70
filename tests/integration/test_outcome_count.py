"""`python -m verification.outcome_count` on real topics: right ones, and the same with an outcome too few."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from stream_app.admin.broker import connect
from stream_app.admin.topics import create_topics, plan_topics

pytestmark = [pytest.mark.kafka]

ROOT = Path(__file__).resolve().parents[2]


def test_topics_are_counted_as_they_stand(kafka_bootstrap: str, topic_prefix: str) -> None:
    with connect(kafka_bootstrap) as admin:
        create_topics(admin, plan_topics(2, prefix=topic_prefix))
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "compression.type": "lz4"})

    def put(topic: str, partition: int, offset: int, *, alert: bool = False) -> None:
        source = {"topic": "orders", "partition": partition, "offset": offset}
        answer = {"answer_id": f"orders-{partition}-{offset}", "source": source, "fraud_alert": alert}
        producer.produce(f"{topic_prefix}{topic}", json.dumps(answer), key="u-1", partition=partition)

    for partition in (0, 0, 0, 1):
        producer.produce(f"{topic_prefix}orders", "anything", partition=partition)
    for topic in ("intent-labels", "recommendation-candidates", "fraud-alerts"):
        put(topic, 0, 0, alert=True)
    put("late-events", 0, 1)
    put("late-events", 0, 1)
    put("dead-letters", 0, 2)
    assert producer.flush(30) == 0
    status, counts = count(kafka_bootstrap, topic_prefix)
    assert (status, counts["missing"], counts["ok"]) == (1, 1, False)
    assert counts["examples"] == {"missing": [["orders", 1, 0]]}
    put("dead-letters", 1, 0)
    assert producer.flush(30) == 0
    status, counts = count(kafka_bootstrap, topic_prefix)
    assert (status, counts["events"], counts["repeats"], counts["ok"]) == (0, 4, 1, True)
    assert [counts[name] for name in ("answered", "alerts", "late_events", "dead_letters")] == [1, 1, 1, 2]


def count(bootstrap: str, prefix: str) -> tuple[int, dict[str, Any]]:
    command = ["-m", "verification.outcome_count", "--bootstrap", bootstrap, "--prefix", prefix, "--partitions", "2"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])
