"""The programs of docs/topics.md on a real broker: what they send is an event in its user's partition, and they act once.

Also what the page says about the partitioners of the clients that are installed here; the Java client is the measure.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from kafka import KafkaProducer

from devservices.kafka_broker import VERSION
from stream_app.codec.decode import Decoder
from stream_app.docgen.examples import EXAMPLES
from stream_app.monitor.tail import TailedRecord, records

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES_FOLDER = ROOT / "docs" / "examples"
JAVA = ["java", "-Xshare:auto", "-cp", str(ROOT / ".services" / f"kafka-{VERSION}" / "lib" / "*")]
USERS = [f"u-{number}" for number in range(60)]
ORDERS = [msgspec.json.encode(msgspec.structs.replace(EXAMPLES["orders"], user=user, event_id=f"o-{user}")) for user in USERS]


def program(name: str, *arguments: str) -> list[str]:
    file = str(EXAMPLES_FOLDER / name)
    return [*([sys.executable] if name.endswith(".py") else JAVA), file, *arguments]


def new_topics(bootstrap: str, names: Sequence[str], partitions: int = 8) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, partitions, 1) for name in names]).values():
        future.result(timeout=30)


def all_records(bootstrap: str, topic: str) -> list[TailedRecord]:
    return list(records(bootstrap, topic, beginning=True, follow=False))


def partitions_of(bootstrap: str, topic: str) -> dict[str, int]:
    return {(record.key or b"").decode(): record.partition for record in all_records(bootstrap, topic)}


def send_by_clients(bootstrap: str, prefix: str) -> None:
    """Send the orders by each Python client, as it is without settings, to a topic of the client's name."""
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as of_kafka_python:
        for user, order in zip(USERS, ORDERS, strict=True):
            of_kafka_python.send(f"{prefix}kafka-python", order, user.encode())
        of_kafka_python.flush()
    of_librdkafka = Producer({"bootstrap.servers": bootstrap})
    for user, order in zip(USERS, ORDERS, strict=True):
        of_librdkafka.produce(f"{prefix}librdkafka", order, user)
    assert of_librdkafka.flush(30) == 0

    async def by_aiokafka() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            for user, order in zip(USERS, ORDERS, strict=True):
                await producer.send_and_wait(f"{prefix}aiokafka", order, user.encode())

    asyncio.run(by_aiokafka())


def test_the_producers_send_events_to_the_partition_that_javas_client_chooses(kafka_bootstrap: str, topic_prefix: str) -> None:
    names = ("SendEvents.java", "send_events.py", "kafka-python", "aiokafka", "librdkafka")
    new_topics(kafka_bootstrap, [topic_prefix + name for name in names])
    for name in names[:2]:
        command = program(name, kafka_bootstrap, topic_prefix + name)
        subprocess.run(command, input=b"\n".join(ORDERS), check=True, timeout=90)
    send_by_clients(kafka_bootstrap, topic_prefix)
    of_java, *others, of_librdkafka = (partitions_of(kafka_bootstrap, topic_prefix + name) for name in names)
    assert of_java.keys() == set(USERS)
    assert len(set(of_java.values())) > 4
    assert others == [of_java] * 3
    assert of_librdkafka != of_java, "its default is another, as the page says"
    decoder = Decoder(future_skew_ms=0)
    for name in names[:2]:
        for record in all_records(kafka_bootstrap, topic_prefix + name):
            event = decoder.decode("orders", record.key, record.value, record.timestamp_ms)
            assert record.value in ORDERS, event


def put(bootstrap: str, topic: str, answers: Sequence[msgspec.Struct]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for answer in answers:
        producer.produce(topic, msgspec.json.encode(answer), "u-1042")
    assert producer.flush(30) == 0


@contextmanager
def lines_of(command: Sequence[str]) -> Iterator[Iterator[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield iter(process.stdout.readline, "")
        finally:
            process.kill()


def answers(topic: str, other: Mapping[str, Any]) -> list[msgspec.Struct]:
    """Return an answer; it again, with the same bytes, with `other` content, and for a copy of its event; and a second answer."""
    first = EXAMPLES[topic]
    copy = {"answer_id": "orders-3-1206", "duplicate_of": "orders-3-1205"}
    changes: tuple[Mapping[str, Any], ...] = ({}, {}, other, copy, {"answer_id": "orders-3-1207"})
    return [msgspec.structs.replace(first, **change) for change in changes]


def test_a_case_is_opened_once_for_each_alert_and_holds_the_first(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    topic = f"{topic_prefix}fraud-alerts"
    new_topics(kafka_bootstrap, [topic], 1)
    put(kafka_bootstrap, topic, answers("fraud-alerts", {"amount": 1.0, "reasons": []}))
    expected = ["opened orders-3-1205", "repeated orders-3-1205", "repeated orders-3-1205", "opened orders-3-1207"]
    for run, lines in enumerate([expected, [line.replace("opened", "repeated") for line in expected]]):
        # The second run reads everything again, as after a crash before the first commit of offsets.
        arguments = (kafka_bootstrap, topic, f"{topic_prefix}{run}", str(tmp_path / "cases.db"))
        with lines_of(program("act_on_alerts.py", *arguments)) as printed:
            assert [next(printed).strip() for _ in lines] == lines
    with closing(sqlite3.connect(tmp_path / "cases.db")) as cases:
        rows = cases.execute("SELECT * FROM cases ORDER BY answer_id").fetchall()
    reasons = "device_orders_1d 14, user_orders_1h 9"
    assert rows == [(f"orders-3-{offset}", "u-1042", 59.9, reasons) for offset in (1205, 1207)]


def test_each_intent_is_printed_once(kafka_bootstrap: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}intent-labels"
    new_topics(kafka_bootstrap, [topic], 1)
    degraded = msgspec.structs.replace(EXAMPLES["intent-labels"], answer_id="orders-3-1", degraded=True)
    put(kafka_bootstrap, topic, [degraded, *answers("intent-labels", {"intent": "look"})])
    with lines_of(program("FollowIntents.java", kafka_bootstrap, topic, f"{topic_prefix}g")) as printed:
        assert [json.dumps(next(printed).split()) for _ in range(2)] == [
            '["orders-3-1205", "u-1042", "buy"]',
            '["orders-3-1207", "u-1042", "buy"]',
        ]
