"""What is no event lands in `dead-letters`, with its original bytes and a reason, and the worker goes on: by the real command.

The valid events before, between and behind them are answered as if the others had not been there.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from kafka import KafkaProducer

from stream_app.admin.broker import connect
from stream_app.admin.topics import create_topics, plan_topics
from stream_app.config import KafkaSettings, ModelSettings, RedisSettings, Settings, environ_from
from stream_app.docgen.examples import EXAMPLES
from stream_app.events import SOURCE_TOPICS
from tests.integration.transport_harness import until

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.case("odd records")]

PARTITIONS = 2
ROOT = Path(__file__).resolve().parents[2]
HEADERS: list[tuple[str, bytes | None]] = [("trace", bytes(range(256))), ("empty", b""), ("none", None), ("trace", b"twice")]


@dataclass
class Bad:
    """A record that is no event, and a word that its reason must have."""

    topic: str
    value: bytes | None
    says: str
    key: bytes | None = b"u-1042"
    giant: bool = False  # only its beginning is kept


def example(topic: str, **changes: Any) -> bytes:
    made: dict[str, Any] = json.loads(msgspec.json.encode(EXAMPLES[topic]))
    made.update(changes)
    return json.dumps({name: value for name, value in made.items() if value is not ...}).encode()


ODD = [
    "a b",
    "a\n",
    "a\tb",
    "a\0b",
    "\x7f",
    "ä",
    "用户",
    "😀",
    "a\u200b",
    "'",
    '"',
    "\\",
    "{",
    "}",
    ",",
    ";",
    "<",
    "$",
    "%",
    "*",
    "#",
]
BAD = [
    Bad("clicks", b"{broken", "not JSON"),
    Bad("clicks", bytes(range(256)), "not JSON"),
    Bad("clicks", b"", "no value"),
    Bad("orders", None, "no value"),
    Bad("orders", b"[" * 50_000, "array"),
    Bad("searches", b'{"x":' + b"[" * 900_000, "nested too deeply"),
    Bad("clicks", example("clicks", price="9.99"), "$.price"),
    Bad("clicks", example("clicks", user=17), "$.user"),
    Bad("clicks", example("clicks", item=...), "item"),
    Bad("orders", example("orders", lines=...), "lines"),
    Bad("clicks", example("clicks", price=1e300), "$.price"),
    Bad("clicks", example("clicks", position=10**30), "$.position"),
    Bad("searches", example("orders"), "query"),
    Bad("orders", example("clicks"), "lines"),
    Bad("searches", example("searches", query="x" * 1_000_000), "$.query"),
    Bad("searches", example("searches", query="用" * 1_000_000).replace(b"\\u7528", "用".encode())[:1_000_000], "JSON"),
    Bad("clicks", b"0" * 5_000_000, "5000000 bytes", giant=True),  # a compressed batch holds it
    Bad("clicks", example("clicks", padding="x" * 2_000_000), "bytes"),
    Bad("orders", example("orders", amount=123456).replace(b"123456", b"NaN"), "not JSON"),
    Bad("orders", example("orders", amount=123456).replace(b"123456", b"-1e400"), "$.amount"),
    Bad("orders", example("orders", amount=-1.0), "$.amount"),
    Bad("clicks", example("clicks", event_time_ms=-1), "$.event_time_ms"),
    Bad("clicks", example("clicks", event_time_ms=1_748_736_000_000_000), "$.event_time_ms"),
    Bad("clicks", example("clicks", event_time_ms=4_000_000_000_000), "producer's clock"),
    Bad("clicks", example("clicks"), "key", key=None),
    Bad("clicks", example("clicks"), "key", key=b"u-1"),
    Bad("clicks", example("clicks"), "key", key=bytes(range(128, 256))),
    *(Bad("clicks", example("clicks", user=odd), "$.user", key=odd.encode()) for odd in ODD),
    *(Bad("orders", example("orders", device=odd), "$.device") for odd in ODD),
]


class Shop:
    """A worker of the command line, its topics, and what it says."""

    def __init__(self, bootstrap: str, redis_url: str, prefixes: tuple[str, str], folder: Path) -> None:
        self.settings = Settings(
            kafka=KafkaSettings(bootstrap=bootstrap, group=f"{prefixes[0]}g", partitions=PARTITIONS, topic_prefix=prefixes[0]),
            redis=RedisSettings(url=redis_url, prefix=prefixes[1]),
            model=ModelSettings(engine="none"),
        )
        with connect(bootstrap) as admin:
            create_topics(admin, plan_topics(PARTITIONS, prefix=prefixes[0]))
        self.producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 9_000_000, "compression.type": "gzip"})
        self.consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "fetch.message.max.bytes": 8_000_000}
        )
        topics = [self.settings.topic(name) for name in ("dead-letters", "intent-labels")]
        self.consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for topic in topics for p in range(PARTITIONS)])
        self.said: dict[str, dict[str, Any]] = {}  # answer id -> the message, with its topic and key
        self.log, self.restarted = folder / "worker.log", False  # a worker that ended with an error repeats what it published
        self.start()

    def start(self) -> None:
        with self.log.open("wb") as output:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "stream_app", "worker"],
                cwd=self.log.parent,
                env={**os.environ, **environ_from(self.settings), "PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=output,
            )

    def restart(self, **changes: Any) -> None:
        """Stop the worker, if it runs, and start it with other settings."""
        self.worker.terminate()
        self.worker.wait(60)
        self.restarted = True
        self.settings = replace(self.settings, worker=replace(self.settings.worker, **changes))
        self.start()

    def send(self, records: Sequence[tuple[str, bytes | None, bytes | None]]) -> list[str]:
        """Append records with `HEADERS`, wait for the broker, and return the ids of their answers."""
        ids: dict[int, str] = {}

        def delivered(number: int, topic: str) -> Any:
            def note(error: KafkaError | None, message: Message) -> None:
                if error is not None:
                    raise KafkaException(error)
                ids[number] = f"{topic}-{message.partition()}-{message.offset()}"

            return note

        for number, (topic, key, value) in enumerate(records):
            name, partition = self.settings.topic(topic), number % PARTITIONS
            headers: Any = HEADERS
            self.producer.produce(name, value, key, partition, delivered(number, topic), headers=headers)
        assert self.producer.flush(30) == 0
        return [ids[number] for number in range(len(records))]

    def hears(self, ids: Sequence[str]) -> bool:
        """Read on, and tell whether all of these have been said."""
        assert self.worker.poll() is None, f"the worker has ended:\n{self.log.read_text()[-3_000:]}"
        for message in self.consumer.consume(1_000, 0.2):
            if message.error():
                raise KafkaException(message.error())
            value = message.value()
            assert isinstance(value, bytes)
            said = json.loads(value)
            known, said = self.said.get(said["answer_id"]), {**said, "topic": message.topic(), "message_key": message.key()}
            assert known is None or (self.restarted and known == said), "one outcome an offset"
            self.said[said["answer_id"]] = said
        return all(identifier in self.said for identifier in ids)

    def stop(self) -> None:
        if self.worker.poll() is None:
            self.worker.kill()
        self.worker.wait()
        self.consumer.close()


@pytest.fixture
def shop(kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(kafka_bootstrap, redis_url, (topic_prefix, redis_prefix), tmp_path)
    yield shop
    shop.stop()


def original(said: Mapping[str, Any], name: str) -> bytes | None:
    text = said[name]
    return None if text is None else base64.b64decode(text)


def test_what_is_no_event_is_kept_with_its_reason_and_the_worker_goes_on(shop: Shop) -> None:
    good: list[tuple[str, bytes | None, bytes | None]] = [
        (topic, b"u-1042", example(topic)) for topic in SOURCE_TOPICS for _ in range(PARTITIONS)
    ]
    before = shop.send(good)
    between: list[str] = []
    bad: list[str] = []
    for at in range(0, len(BAD), 5):
        bad += shop.send([(record.topic, record.key, record.value) for record in BAD[at : at + 5]])
        between += shop.send(good[:2])
    until(lambda: shop.hears([*before, *between, *bad]), "every record has its outcome")
    behind = shop.send(good)
    until(lambda: shop.hears(behind), "events behind them are answered")
    for identifier in [*before, *between, *behind]:
        assert shop.said[identifier]["topic"] == shop.settings.topic("intent-labels")
    for identifier, record in zip(bad, BAD, strict=True):
        said = shop.said[identifier]
        assert said["topic"] == shop.settings.topic("dead-letters"), f"{record} was taken for an event"
        assert record.says in said["reason"], f"{said['reason']!r} does not say {record.says!r}"
        assert len(said["reason"]) < 600
        assert said["place"] == "codec.decode"
        if record.giant:
            assert record.value is not None
            assert record.value.startswith(original(said, "value") or b"?")
            continue
        assert (original(said, "key"), original(said, "value")) == (record.key, record.value)
        headers = [(name, None if value is None else base64.b64decode(value)) for name, value in said["headers"]]
        assert headers == HEADERS
        assert said["message_key"] == record.key
    shop.worker.send_signal(signal.SIGTERM)
    assert shop.worker.wait(30) == 0
    assert "Unclosed" not in shop.log.read_text()


class OddName(str):
    """A header name as only a producer that does not care for UTF-8 writes it."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe"


def send_odd(shop: Shop, values: Sequence[bytes]) -> list[str]:
    """Append to `clicks` with an odd header name; return the ids of the answers."""
    producer = KafkaProducer(bootstrap_servers=shop.settings.kafka.bootstrap)
    headers = [(OddName("odd"), b"1"), ("trace", b"2")]
    try:
        sent = [producer.send(shop.settings.topic("clicks"), value, b"u-1042", headers, partition=0) for value in values]
        return [f"clicks-0-{future.get(30).offset}" for future in sent]
    finally:
        producer.close()


def test_a_header_name_that_is_no_text_stops_nothing(shop: Shop) -> None:
    good = ("clicks", b"u-1042", example("clicks"))
    before = shop.send([good] * 4)
    scored, dead = send_odd(shop, [example("clicks"), b"{broken"])
    behind = shop.send([good] * 4)
    until(lambda: shop.hears([*before, scored, dead, *behind]), "every record has its outcome")
    for identifier in [*before, scored, *behind]:
        assert shop.said[identifier]["topic"] == shop.settings.topic("intent-labels")
    assert shop.said[dead]["topic"] == shop.settings.topic("dead-letters")
    assert [name for name, _ in shop.said[dead]["headers"]] == ["\\xff\\xfe", "trace"]


@pytest.mark.case("topic full of invalid records")
def test_with_a_limit_the_worker_ends_before_the_topic_is_drained(shop: Shop) -> None:
    shop.restart(max_dead_share=0.5)
    good = shop.send([("clicks", b"u-1042", odd_event(100 + number)) for number in range(120)])
    until(lambda: shop.hears(good), "the good are answered")
    bad = shop.send([("clicks", b"u-1042", b"{broken")] * 1_000)
    assert shop.worker.wait(60) == 1
    assert "of the last" in shop.log.read_text()
    assert "records of clicks are no valid events, worker.max_dead_share allows 50%" in shop.log.read_text()
    shop.restart(max_dead_share=0.0)
    until(lambda: shop.hears(bad), "without the limit each record has its outcome, and none has two")


def odd_event(number: int, **changes: Any) -> bytes:
    return example("clicks", event_id=f"x-{number}", **changes)


CLOSED = b"}"
GOOD_RECORDS = [
    odd_event(0),
    odd_event(1, note="unknown", nested={"a": [1, None]}),
    b" \r\n\t" + odd_event(2) + b"\n",
    odd_event(3).replace(b"u-1042", b"u-104\\u0032"),
]
ODD_RECORDS: list[tuple[bytes | None, bytes | None]] = [
    (None, odd_event(10)),
    (b'"u-1042"', odd_event(11)),  # a key written by a JSON serialiser
    (b"u-1042", None),  # a tombstone of a compacted topic
    (b"u-1042", b""),
    (b"u-1042", b"null"),
    (b"u-1042", b"\0\0\0\0\x07" + odd_event(12)),  # framed for a schema registry
    (b"u-1042", b'{"schema": {}, "payload": ' + odd_event(13) + CLOSED),  # Kafka Connect's envelope
    (b"u-1042", json.dumps(odd_event(14).decode()).encode()),  # JSON in a JSON text
    (b"u-1042", b"[" + odd_event(15) + b"]"),
    (b"u-1042", odd_event(16) + odd_event(17)),
    (b"u-1042", odd_event(18, price=123456).replace(b"123456", b"NaN")),
    (b"u-1042", odd_event(19, price=-1)),
    (b"u-1042", odd_event(20, event_time_ms="2025-06-01T00:00:00Z")),
    (b"u-1042", odd_event(21).decode().encode("utf-16")),
    (b"u-1042", gzip.compress(odd_event(22), mtime=0)),
    (b"u-1042", odd_event(23, item="i-\ud83d")),
    (b"u-1042", odd_event(24)[:-1]),
]


def outcomes(folder: Path) -> dict[str, tuple[str, Any]]:
    """Outcome of each record in a replay's output: topic, and for a dead letter the original key and value."""
    lines = {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_bytes().splitlines()]
        for name in ("intent-labels", "dead-letters", "late-events")
    }
    ids = [said["answer_id"] for of_topic in lines.values() for said in of_topic]
    assert len(ids) == len(set(ids)), "one outcome an offset"
    return {said["answer_id"]: outcome(name, said) for name, of_topic in lines.items() for said in of_topic}


def outcome(topic: str, said: Mapping[str, Any]) -> tuple[str, Any]:
    return topic, (said["reason"], original(said, "key"), original(said, "value")) if topic == "dead-letters" else None


def test_odd_records_have_one_outcome_each_and_the_same_in_a_replay(shop: Shop, tmp_path: Path) -> None:
    records: list[tuple[bytes | None, bytes | None]] = [(b"u-1042", value) for value in GOOD_RECORDS]
    records[2:2] = ODD_RECORDS
    ids = shop.send([("clicks", key, value) for key, value in records])
    until(lambda: shop.hears(ids), "every record has its outcome")
    live = {name: outcome(said["topic"].removeprefix(shop.settings.kafka.topic_prefix), said) for name, said in shop.said.items()}
    for name, (key, value) in zip(ids, records, strict=True):
        if value in GOOD_RECORDS:
            assert live[name] == ("intent-labels", None)
        else:
            assert (live[name][0], *live[name][1][1:]) == ("dead-letters", key, value), f"{live[name]} of {value!r}"

    def millrace(*arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "stream_app", *arguments]
        environ = {**os.environ, **environ_from(shop.settings), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return summary

    assert millrace("record", "r")["by_topic"]["clicks"] == len(records)
    millrace("replay", "r/log", "--out", "of-files")
    millrace("sort", "r/log", "--out", "t.parquet")
    millrace("replay", "t.parquet", "--out", "of-table")
    millrace("replay", "--from-topics", "--out", "of-topics")
    assert outcomes(tmp_path / "of-files") == outcomes(tmp_path / "of-table") == outcomes(tmp_path / "of-topics") == live
