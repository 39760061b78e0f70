"""Import and simulation through a real broker. Needs Kafka; the topics' creation takes the most time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from stream_app.admin.broker import connect
from stream_app.admin.topics import create_topics, plan_topics
from stream_app.events import SOURCE_TOPICS, Label
from stream_app.logs.ingest.sink import KafkaSink

pytestmark = pytest.mark.kafka

CHECKOUT = Path(__file__).resolve().parents[2]
PARTITIONS = 4
MAPPING = """
name = "taps"
[[record]]
topic = "clicks"
[record.fields]
event_id = "tap-{row}"
user = "tap-{who}"
event_time_ms = { column = "at", unit = "s" }
action = "view"
item = "i{thing}"
"""


@pytest.fixture
def topics(kafka_bootstrap: str, topic_prefix: str) -> str:
    with connect(kafka_bootstrap) as admin:
        create_topics(admin, plan_topics(PARTITIONS, 1, topic_prefix))
    return topic_prefix


def read_all(bootstrap: str, topics: list[str]) -> list[tuple[str, int, bytes, bytes]]:
    """Return (topic, partition, key, value) of all records, up to the ends as they are now."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        parts = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
        ends = consumer.end_offsets(parts)
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        records: list[tuple[str, int, bytes, bytes]] = []
        while any(consumer.position(part) < ends[part] for part in parts):
            for batch in consumer.poll(timeout_ms=500, max_records=10_000).values():
                records += [(record.topic, record.partition, record.key, record.value) for record in batch]
        return records
    finally:
        consumer.close()


def command(folder: Path, bootstrap: str, prefix: str, *args: str) -> subprocess.Popen[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")},
        "MILLRACE_KAFKA_BOOTSTRAP": bootstrap,
        "MILLRACE_KAFKA_TOPIC_PREFIX": prefix,
        "PYTHONPATH": str(CHECKOUT),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "stream_app", *args],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> dict[str, object]:
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    line: dict[str, object] = json.loads(out.splitlines()[-1])
    return line


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the condition did not come true within 60 s"
        time.sleep(0.02)


def taps(folder: Path, rows: int) -> None:
    (folder / "taps.toml").write_text(MAPPING)
    lines = (f"{row % 100},{1_700_000_000 + row},{row % 7}" for row in range(rows))
    (folder / "taps.csv").write_text("who,at,thing\n" + "\n".join(lines))


def test_an_import_that_was_killed_goes_on_and_no_row_is_missing(tmp_path: Path, kafka_bootstrap: str, topics: str) -> None:
    taps(tmp_path, 12_000)
    args = ("import", "taps.csv", "--mapping", "taps.toml")
    killed = command(tmp_path, kafka_bootstrap, topics, *args, "--rate", "2000")
    states = tmp_path / ".millrace" / "imports"
    wait_for(lambda: any(states.glob("*.json")), killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    line = finished(command(tmp_path, kafka_bootstrap, topics, *args))
    assert line["rows"] == line["events"] == 12_000
    assert int(str(line["resumed_at_row"])) > 0
    ids = Counter(json.loads(value)["event_id"] for *_, value in read_all(kafka_bootstrap, [f"{topics}clicks"]))
    assert set(ids) == {f"tap-{row}" for row in range(1, 12_001)}
    # What came twice is what was sent after the last checkpoint.
    assert sum(count - 1 for count in ids.values()) < 12_000 - int(str(line["resumed_at_row"]))
    assert not any(states.glob("*.json"))


def test_an_import_that_is_asked_to_stop_ends_in_order_and_goes_on_exactly_there(
    tmp_path: Path, kafka_bootstrap: str, topics: str
) -> None:
    taps(tmp_path, 12_000)
    args = ("import", "taps.csv", "--mapping", "taps.toml")
    process = command(tmp_path, kafka_bootstrap, topics, *args, "--rate", "2000")
    wait_for(lambda: any((tmp_path / ".millrace" / "imports").glob("*.json")), process)
    process.send_signal(signal.SIGTERM)
    stopped = finished(process)
    assert stopped["complete"] is False
    line = finished(command(tmp_path, kafka_bootstrap, topics, *args))
    assert line["resumed_at_row"] == stopped["rows"]
    ids = [json.loads(value)["event_id"] for *_, value in read_all(kafka_bootstrap, [f"{topics}clicks"])]
    assert len(ids) == len(set(ids)) == 12_000


def test_a_simulation_reaches_its_topics_keyed_by_user_where_other_clients_put_them(
    tmp_path: Path, kafka_bootstrap: str, topics: str
) -> None:
    from kafka.partitioner import murmur2

    line = finished(
        command(tmp_path, kafka_bootstrap, topics, "simulate", "--rate", "0", "--events", "5000", "--label-delay", "1")
    )
    names = [*SOURCE_TOPICS, "labels"]
    records = read_all(kafka_bootstrap, [topics + name for name in names])
    counts = Counter(topic.removeprefix(topics) for topic, *_ in records)
    assert dict(counts) == line["by_topic"]
    assert sum(counts[name] for name in SOURCE_TOPICS) == line["events"] == 5_000
    for topic, partition, key, value in records:
        assert partition == (murmur2(key) & 0x7FFFFFFF) % PARTITIONS
        if topic.endswith("labels"):
            assert msgspec.json.decode(value, type=Label).user.encode() == key


def test_a_live_simulation_ends_in_order_on_ctrl_c_with_its_summary(tmp_path: Path, kafka_bootstrap: str, topics: str) -> None:
    process = command(tmp_path, kafka_bootstrap, topics, "simulate", "--rate", "300")
    wait_for(lambda: bool(read_all(kafka_bootstrap, [f"{topics}clicks"])), process)
    process.send_signal(signal.SIGINT)
    line = finished(process)
    assert line["interrupted"] is True
    records = read_all(kafka_bootstrap, [topics + name for name in SOURCE_TOPICS])
    assert len(records) == line["events"]


def test_missing_topics_are_named_with_the_command_that_makes_them(
    tmp_path: Path, kafka_bootstrap: str, topic_prefix: str
) -> None:
    process = command(tmp_path, kafka_bootstrap, topic_prefix, "simulate", "--events", "1")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"{topic_prefix}searches" in err
    assert "millrace topics create" in err


def test_what_the_sink_flushed_is_in_the_broker(kafka_bootstrap: str, topics: str) -> None:
    with KafkaSink(kafka_bootstrap, ["clicks"], topics) as sink:
        for number in range(5_000):
            sink.send("clicks", b"u%d" % (number % 10), b"%d" % number, 0)
        sink.flush()
        records = read_all(kafka_bootstrap, [f"{topics}clicks"])
    assert {int(value) for *_, value in records} == set(range(5_000))
    by_key: dict[bytes, list[int]] = {}
    for _, _, key, value in records:
        by_key.setdefault(key, []).append(int(value))
    assert all(values == sorted(values) for values in by_key.values())  # a user's records keep their order
