"""`millrace topics`, `tail` and `doctor` on a real broker and Redis, as processes and in this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream_app.admin.broker import connect, read_topics
from stream_app.admin.topics import create_topics, differences, plan_topics
from stream_app.codec.topics import TOPICS
from stream_app.docgen.examples import EXAMPLES
from stream_app.errors import ConfigError
from stream_app.monitor.tail import json_line, records

pytestmark = [pytest.mark.kafka, pytest.mark.redis]
CHECKOUT = Path(__file__).resolve().parents[2]
Millrace = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environ(kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")},
        "MILLRACE_KAFKA_BOOTSTRAP": kafka_bootstrap,
        "MILLRACE_KAFKA_TOPIC_PREFIX": topic_prefix,
        "MILLRACE_KAFKA_PARTITIONS": "3",
        "MILLRACE_REDIS_URL": redis_url,
        "MILLRACE_REDIS_PREFIX": redis_prefix,
        "COLUMNS": "160",
    }


@pytest.fixture
def millrace(environ: dict[str, str]) -> Millrace:
    def run(*args: str, **settings: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stream_app", *args]
        return subprocess.run(
            command, cwd=CHECKOUT, env={**environ, **settings}, capture_output=True, text=True, check=False, timeout=60
        )

    return run


def produce(bootstrap: str, topic: str, values: list[bytes], key: bytes = b"u-1042") -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=bootstrap)
    try:
        for value in values:
            producer.send(topic, key=key, value=value).get(timeout=30)
    finally:
        producer.close()


def last_json(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout.splitlines()[-1])


def test_create_makes_all_topics_as_planned_and_is_idempotent(millrace: Millrace, topic_prefix: str) -> None:
    before = millrace("topics", "check")
    assert before.returncode == 1
    assert before.stdout.count("does not exist; run `millrace topics create`") == len(TOPICS)
    first, again = millrace("topics", "create", "--json"), millrace("topics", "create", "--json")
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert last_json(first)["created"] == [topic_prefix + spec.name for spec in TOPICS]
    assert (last_json(again)["created"], last_json(again)["differences"]) == ([], [])
    check = millrace("topics", "check", "--json")
    assert (check.returncode, last_json(check)) == (0, {"topics": len(TOPICS), "differences": []})


def test_describe_tells_partitions_and_retention_as_the_broker_has_them(millrace: Millrace, topic_prefix: str) -> None:
    assert millrace("topics", "create").returncode == 0
    described = {topic["name"]: topic for topic in last_json(millrace("topics", "describe", "--json"))["topics"]}
    for spec in TOPICS:
        topic = described[topic_prefix + spec.name]
        assert (topic["partitions"], topic["replication"]) == (3, 1)
        assert topic["configs"] == spec.configs()
    assert "400 days" in millrace("topics", "describe").stdout


def test_another_partition_count_is_refused_and_explained(millrace: Millrace) -> None:
    assert millrace("topics", "create").returncode == 0
    done = millrace("topics", "create", MILLRACE_KAFKA_PARTITIONS="4")
    assert done.returncode == 1
    assert "kafka.partitions is 4" in done.stderr
    assert "Operator action: set kafka.partitions" in done.stderr
    check = millrace("topics", "check", MILLRACE_KAFKA_PARTITIONS="4")
    assert (check.returncode, check.stdout.count("has 3 partitions, configured are 4")) == (1, len(TOPICS))


def test_a_count_that_would_orphan_state_is_refused(millrace: Millrace, redis_url: str, redis_prefix: str) -> None:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.hset(f"{redis_prefix}:{{g5}}:meta", "epoch", "1")
    done = millrace("topics", "create")
    assert done.returncode == 1
    assert "groups up to 5, but kafka.partitions is 3" in done.stderr
    assert millrace("topics", "check").returncode == 1  # nothing was created


def test_settings_that_drifted_are_found_and_brought_back_on_request(kafka_bootstrap: str, topic_prefix: str) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType

    plans = plan_topics(2, prefix=topic_prefix)
    names = [plan.name for plan in plans]
    with connect(kafka_bootstrap) as admin:
        create_topics(admin, plans)
        drift = ConfigResource(ConfigResourceType.TOPIC, f"{topic_prefix}clicks", {"retention.ms": "60000"})
        admin.alter_configs([drift])
        deadline = time.monotonic() + 30  # a broker says yes before it has the change
        while not (found := differences(plans, read_topics(admin, names))) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(found) == 1
        assert "retention.ms is 60000, should be 604800000" in found[0]
        done = create_topics(admin, plans, update=True)
        assert (done.updated, done.differences) == ([f"{topic_prefix}clicks"], [])


def test_reading_topics_creates_none(kafka_bootstrap: str, topic_prefix: str) -> None:
    with connect(kafka_bootstrap) as admin:
        assert read_topics(admin, [f"{topic_prefix}nothing"]) == {}
        with pytest.raises(ConfigError, match=r"has no topics .*nothing"):
            next(records(kafka_bootstrap, "nothing", prefix=topic_prefix, beginning=True))
        assert f"{topic_prefix}nothing" not in admin.list_topics()


def test_tail_reads_what_is_there_stops_where_told_and_moves_no_position(
    millrace: Millrace, kafka_bootstrap: str, topic_prefix: str
) -> None:
    assert millrace("topics", "create").returncode == 0
    alert = msgspec.json.encode(EXAMPLES["fraud-alerts"])
    produce(kafka_bootstrap, f"{topic_prefix}fraud-alerts", [alert, alert, b"{oops"])
    produce(kafka_bootstrap, f"{topic_prefix}fraud-alerts", [b'{"other": 1}'], key=b"u-2")
    options = ["tail", "fraud-alerts", "--from", "beginning"]
    everything = millrace(*options, "--no-follow", "--json").stdout.splitlines()
    assert sorted(everything) == sorted([alert.decode(), alert.decode(), '{"not_json": "e29vcHM="}', '{"other":1}'])
    assert millrace(*options, "--user", "u-2", "--limit", "1", "--json").stdout == '{"other":1}\n'
    assert millrace(*options, "--user", "u-1042", "--limit", "2").stdout.count("ALERT 0.93") == 2
    assert millrace("tail", "fraud-alerts", "--no-follow").stdout == ""
    with connect(kafka_bootstrap) as admin:
        assert not [group for group in admin.list_groups() if topic_prefix in str(group)]


def test_tail_follows_until_ctrl_c_and_ends_cleanly(
    millrace: Millrace, environ: dict[str, str], kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    assert millrace("topics", "create").returncode == 0
    topic, out = f"{topic_prefix}clicks", tmp_path / "out"
    command = [sys.executable, "-u", "-m", "stream_app", "tail", "clicks", "--json"]
    with out.open("wb") as file:
        tail = subprocess.Popen(command, cwd=CHECKOUT, env=environ, stdout=file, stderr=subprocess.PIPE)
        try:
            deadline = time.monotonic() + 60
            # It starts at the end as of its start, which cannot be seen from here: so go on until it shows one.
            while out.stat().st_size == 0 and time.monotonic() < deadline:
                produce(kafka_bootstrap, topic, [b'{"n":1}'])
            tail.send_signal(signal.SIGINT)
            _, errors = tail.communicate(timeout=30)
        finally:
            tail.kill()
            tail.wait()
    assert set(out.read_text().splitlines()) == {'{"n":1}'}
    assert (tail.returncode, errors) == (0, b"")


def test_an_aborted_transactions_records_are_not_shown(kafka_bootstrap: str, topic_prefix: str) -> None:
    from confluent_kafka import Producer

    with connect(kafka_bootstrap) as admin:
        create_topics(admin, plan_topics(1, prefix=topic_prefix))
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "transactional.id": f"{topic_prefix}tx"})
    producer.init_transactions(30)
    for value, commit in ((b'"aborted"', False), (b'"kept"', True)):
        producer.begin_transaction()
        producer.produce(f"{topic_prefix}clicks", value=value)
        if commit:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    found = records(kafka_bootstrap, "clicks", prefix=topic_prefix, beginning=True, follow=False)
    assert [json_line(record) for record in found] == ['"kept"']


def test_an_imported_record_of_another_year_is_stamped_by_the_broker(kafka_bootstrap: str, topic_prefix: str) -> None:
    from kafka import KafkaProducer

    with connect(kafka_bootstrap) as admin:
        create_topics(admin, plan_topics(1, prefix=topic_prefix))
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    try:
        producer.send(f"{topic_prefix}clicks", value=b"{}", timestamp_ms=1_511_544_070_000).get(timeout=30)
    finally:
        producer.close()
    (record,) = records(kafka_bootstrap, "clicks", prefix=topic_prefix, beginning=True, follow=False)
    assert record.timestamp_ms > 1_700_000_000_000


def test_doctor_finds_what_is_missing_and_is_content_when_it_is_there(millrace: Millrace) -> None:
    before = millrace("doctor", "--json")
    assert before.returncode == 1
    assert sum(check["finding"].endswith("does not exist") for check in last_json(before)["checks"]) == len(TOPICS)
    assert millrace("topics", "create").returncode == 0
    checks = {check["name"]: check["status"] for check in last_json(millrace("doctor", "--json"))["checks"]}
    assert {checks[name] for name in ("kafka", "topics", "redis", "state", "python", "packages")} == {"OK"}


def test_doctor_finds_state_that_belongs_to_other_topics(
    millrace: Millrace, kafka_bootstrap: str, topic_prefix: str, redis_url: str, redis_prefix: str
) -> None:
    import redis

    assert millrace("topics", "create").returncode == 0
    produce(kafka_bootstrap, f"{topic_prefix}clicks", [b"{}", b"{}"])
    with redis.Redis.from_url(redis_url) as client:
        client.hset(f"{redis_prefix}:{{g1}}:meta", "epoch", "1")
        assert _positions(millrace) == ("OK", "within the logs; 2 events wait to be scored")
        client.hset(f"{redis_prefix}:{{g1}}:meta", "front:clicks", "700")
    status, finding = _positions(millrace)
    assert status == "FAIL"
    assert finding.startswith("clicks-1: the state holds all below 700, the log is 0 to ")


def _positions(millrace: Millrace) -> tuple[str, str]:
    checks = {check["name"]: check for check in last_json(millrace("doctor", "--json"))["checks"]}
    return checks["positions"]["status"], checks["positions"]["finding"]


def test_doctor_says_which_service_does_not_answer(millrace: Millrace) -> None:
    done = millrace("doctor", "--json", MILLRACE_KAFKA_BOOTSTRAP="127.0.0.1:1", MILLRACE_REDIS_URL="redis://127.0.0.1:1/0")
    checks = {check["name"]: check for check in last_json(done)["checks"]}
    assert done.returncode == 1
    for name in ("kafka", "redis"):
        assert checks[name]["status"] == "FAIL"
        assert "millrace services up" in checks[name]["finding"]


def test_a_worker_does_not_join_before_all_topics_are_there_with_one_count(millrace: Millrace) -> None:
    missing = millrace("worker")
    assert missing.returncode == 1
    assert "clicks has 0" in missing.stderr
    assert "millrace topics create" in missing.stderr
    assert millrace("topics", "create").returncode == 0
    other = millrace("worker", MILLRACE_KAFKA_PARTITIONS="4")
    assert other.returncode == 1
    assert "kafka.partitions = 4" in other.stderr
    assert "orders has 3" in other.stderr
