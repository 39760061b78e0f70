"""How a worker ends: drained after a signal, with an error and a non-zero status after anything worse."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from devservices import real
from devservices.mock_broker import mock_broker
from tests.integration.transport_harness import PARTITIONS, SqliteSubject, committed, produce, settle, until
from tests.integration.transport_worker import open_store

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def fronts(subject: SqliteSubject) -> dict[tuple[str, int], int]:
    store = sqlite3.connect(subject.store)
    try:
        return {(topic, part): front for topic, part, front in store.execute("SELECT topic, part, front FROM fronts")}
    finally:
        store.close()


def test_sigterm_finishes_what_is_in_flight_commits_and_leaves_nothing_behind(subject: SqliteSubject) -> None:
    produce(subject.bootstrap, subject.topics, 600)
    worker = subject.start(delay_s=1, options={"chunk_events": 20, "batch_events": 60})
    until(lambda: subject.applied_by(worker) > 0, "the first batch is applied")
    worker.terminate()
    assert worker.wait(30) == 0
    assert max(subject.applied().values()) == 1
    assert committed(subject.bootstrap, subject.group, subject.topics) == fronts(subject)
    assert [path.name for path in subject.folder.iterdir() if path.name.startswith("millrace-")] == []


def test_an_error_in_the_claim_ends_the_worker_and_says_why(subject: SqliteSubject) -> None:
    worker = subject.start(die_in="on_assigned")
    assert worker.wait(60) == 1
    assert "the claim was refused on purpose" in subject.log(0).read_text()


def test_an_error_in_a_batch_ends_the_worker_with_nothing_of_it_committed(subject: SqliteSubject) -> None:
    produce(subject.bootstrap, subject.topics, 60)
    worker = subject.start(die_in="handle", options={"commit_interval_ms": 100})
    assert worker.wait(60) == 1
    assert "the batch failed on purpose" in subject.log(0).read_text()
    assert committed(subject.bootstrap, subject.group, subject.topics) == {}


def test_a_front_beyond_the_end_of_the_log_ends_the_worker(subject: SqliteSubject) -> None:
    store = open_store(str(subject.store))
    store.execute("INSERT INTO fronts VALUES (?, 0, 1000)", [subject.topics[0]])
    store.close()
    worker = subject.start()
    assert worker.wait(60) == 1
    assert "LogPosition(start=1000, beginning=0, end=0)" in subject.log(0).read_text()


@pytest.mark.case("records expired before they were read")
def test_records_that_expire_before_they_are_read_end_the_worker(subject: SqliteSubject) -> None:
    places = produce(subject.bootstrap, subject.topics, 120)
    worker = subject.start()
    settle(subject, places)
    worker.terminate()
    assert worker.wait(30) == 0
    produce(subject.bootstrap, subject.topics, 120)
    admin = AdminClient({"bootstrap.servers": subject.bootstrap})
    [deleted] = admin.delete_records([TopicPartition(subject.topics[0], 0, 15)]).values()
    deleted.result(timeout=30)
    worker = subject.start()
    assert worker.wait(60) == 1
    assert "LogPosition(start=10, beginning=15, end=20)" in subject.log(1).read_text()


@pytest.mark.case("two workers under one name")
def test_two_workers_with_one_instance_id_apply_nothing_twice_and_one_of_them_says_so(subject: SqliteSubject) -> None:
    subject.options = {"chunk_events": 20, "batch_events": 40, "instance": "the-same"}
    places = produce(subject.bootstrap, subject.topics, 600)
    twins = [subject.start(delay_s=0.2), subject.start(delay_s=0.2)]
    until(lambda: any(twin.poll() is not None for twin in twins), "one twin has ended")
    # The one that ends has counted its assignments, or the broker has answered their quarrel with an error of its own.
    reasons = ("seems to run with instance id 'the-same'", "failed, the worker stops")
    for number, status in enumerate(twin.poll() for twin in twins):
        if status is not None:
            assert status in (1, 70), "a crash, or one that had to be ended hard"
            assert any(reason in subject.log(number).read_text() for reason in reasons)
    subject.stop_all()
    subject.start()
    settle(subject, places)


def test_sigterm_without_a_broker_ends_the_worker_in_time(
    subject_of_own_broker: SqliteSubject, own_broker: tuple[Path, str]
) -> None:
    subject = subject_of_own_broker
    worker = subject.start(options={"drain_timeout_ms": 1_000})
    settle(subject, produce(subject.bootstrap, subject.topics, 60))
    real.stop_kafka(own_broker[0])
    worker.terminate()
    assert worker.wait(60) == 0


def test_the_embedded_broker_serves_the_same_worker(tmp_path: Path) -> None:
    topics = ("searches", "clicks", "orders")
    with mock_broker(dict.fromkeys(topics, PARTITIONS)) as bootstrap:
        subject = SqliteSubject(bootstrap, "embedded", topics, tmp_path)
        try:
            places = produce(bootstrap, topics, 3_000)
            worker = subject.start()
            settle(subject, places)
            worker.terminate()
            assert worker.wait(30) == 0
            places += produce(bootstrap, topics, 300)
            subject.start()
            settle(subject, places)
        finally:
            subject.stop_all()
