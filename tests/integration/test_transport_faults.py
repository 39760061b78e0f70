"""Workers lose no record and apply none twice under any fault, on a real broker.

Each test leaves the records of one topic set applied exactly once. The store of the small worker logs applications
without a unique key, so a double one is seen, and the tests named `..._without_the_fence_...` show that these faults do
bring doubles when nothing stops them.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from devservices import real
from tests.integration.transport_harness import (
    SqliteSubject,
    Subject,
    committed,
    produce,
    produce_aborted,
    produce_committed,
    settle,
    until,
)

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SLOW_BATCHES = {"chunk_events": 20, "batch_events": 60, "buffer_events": 240, "drain_timeout_ms": 2_000}


def wait_for_first(subject: Subject, *workers: subprocess.Popen[bytes], at_least: int = 1) -> None:
    for worker in workers:
        until(lambda w=worker: subject.applied_by(w) >= at_least, f"worker {worker.pid} has applied {at_least}")  # type: ignore[misc]


def test_slow_batches_with_workers_joining_leaving_and_killed(subject: SqliteSubject) -> None:
    # A batch of 3 s outlasts the drain of 2 s: at each rebalance batches of the old assignment are still running.
    subject.options = SLOW_BATCHES
    places = produce(subject.bootstrap, subject.topics, 1_800)
    first = subject.start(delay_s=3)
    wait_for_first(subject, first)
    second = subject.start(delay_s=3)
    wait_for_first(subject, second)
    third = subject.start(delay_s=3)
    first.terminate()
    wait_for_first(subject, third)
    second.kill()
    settle(subject, places)
    assert first.wait(30) == 0


def test_quick_batches_with_workers_killed_again_and_again(subject: SqliteSubject) -> None:
    subject.options = {"chunk_events": 20, "batch_events": 40, "commit_interval_ms": 200}
    places = produce(subject.bootstrap, subject.topics, 3_000)
    for round_number in range(4):
        victim = subject.start(delay_s=0.02)
        wait_for_first(subject, victim, at_least=100)
        victim.kill()
        victim.wait()
        places += produce(subject.bootstrap, subject.topics, 100 + round_number)
    subject.start()
    settle(subject, places)


def test_rebalances_in_quick_succession(subject: SqliteSubject) -> None:
    # A fetch that outlives a rebalance must not take the first records of the next assignment and lose them.
    subject.options = {"chunk_events": 20, "batch_events": 40, "commit_interval_ms": 200}
    places = produce(subject.bootstrap, subject.topics, 300)
    lasting = subject.start(delay_s=0.05)
    wait_for_first(subject, lasting)
    for _ in range(6):
        guest = subject.start(delay_s=0.05)
        until(lambda: "starts at" in subject.log(len(subject.workers) - 1).read_text(), "the guest has partitions")
        places += produce(subject.bootstrap, subject.topics, 240)
        guest.terminate()
        places += produce(subject.bootstrap, subject.topics, 240)
        assert guest.wait(30) == 0
    settle(subject, places)


def test_a_worker_stopped_beyond_its_session_and_continued(subject: SqliteSubject) -> None:
    zombie, _ = stop_and_continue(subject, fence=True)
    assert zombie.poll() is None, "the fence is no reason to end: the group gives it new partitions"


def test_without_the_fence_a_stopped_and_continued_worker_applies_twice(subject: SqliteSubject) -> None:
    stop_and_continue(subject, fence=False)
    assert max(subject.applied().values()) > 1


def stop_and_continue(subject: SqliteSubject, *, fence: bool) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    subject.options = SLOW_BATCHES
    places = produce(subject.bootstrap, subject.topics, 600)
    zombie = subject.start(delay_s=1, fence=fence)
    wait_for_first(subject, zombie)
    zombie.send_signal(signal.SIGSTOP)  # with batches in flight
    before = subject.applied_by(zombie)
    heir = subject.start(delay_s=0, fence=fence)
    until(lambda: set(places) <= subject.applied().keys(), "the heir has applied all")
    zombie.send_signal(signal.SIGCONT)
    if not fence:
        until(lambda: subject.applied_by(zombie) > before, "the zombie has applied")
        return zombie, heir
    heir.terminate()
    assert heir.wait(30) == 0
    places += produce(subject.bootstrap, subject.topics, 120)
    settle(subject, places)
    return zombie, heir


def test_a_rebalance_before_the_first_commit(subject: SqliteSubject) -> None:
    never = {"commit_interval_ms": 600_000, "chunk_events": 20, "batch_events": 40}
    places = produce(subject.bootstrap, subject.topics, 1_200)
    first = subject.start(delay_s=0.2, options=never)
    wait_for_first(subject, first)
    first.kill()  # applied, but nothing committed: Kafka knows no offset of this group
    assert committed(subject.bootstrap, subject.group, subject.topics) == {}
    second = subject.start(delay_s=0.2, options=never)
    third = subject.start(delay_s=0.2, options=never)
    wait_for_first(subject, second, third)
    settle(subject, places)


def test_aborted_transactions_are_never_applied_and_leave_no_lag(subject: SqliteSubject) -> None:
    places = produce(subject.bootstrap, subject.topics, 100)
    subject.start(options={"commit_interval_ms": 200})
    for _ in range(3):
        produce_aborted(subject.bootstrap, subject.topics, 300)
        places += produce_committed(subject.bootstrap, subject.topics, 200)
    produce_aborted(subject.bootstrap, subject.topics, 60)
    settle(subject, places)
    # The last aborted records and their markers stand behind all applied ones: the offsets must move over them too.
    ends = {(place.topic, place.partition): 0 for place in places}
    for place in places:
        ends[place.topic, place.partition] = max(ends[place.topic, place.partition], place.offset)
    moved = lambda: all(  # noqa: E731
        offset > ends[place] + 5 for place, offset in committed(subject.bootstrap, subject.group, subject.topics).items()
    )
    until(moved, "offsets have moved over the aborted records")


@pytest.mark.case("broker restarted")
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_the_broker_restarts(subject_of_own_broker: SqliteSubject, own_broker: tuple[Path, str], *, kill: bool) -> None:
    subject = subject_of_own_broker
    subject.options = {"chunk_events": 20, "batch_events": 40}
    places = produce(subject.bootstrap, subject.topics, 1_500)
    worker = subject.start(delay_s=0.1)
    wait_for_first(subject, worker, at_least=100)
    real.restart_kafka(own_broker[0], kill=kill)
    places += produce(subject.bootstrap, subject.topics, 300)
    settle(subject, places)
    assert worker.poll() is None, "a broker restart is no reason to end"


@pytest.mark.case("group rewound by an operator")
def test_an_operator_rewinds_the_group(subject: SqliteSubject) -> None:
    places = produce(subject.bootstrap, subject.topics, 600)
    worker = subject.start()
    settle(subject, places)
    worker.terminate()
    assert worker.wait(30) == 0
    rewind(subject)
    subject.start(options={"commit_interval_ms": 200})
    places += produce(subject.bootstrap, subject.topics, 60)
    settle(subject, places)


def rewind(subject: Subject) -> None:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": subject.bootstrap, "group.id": subject.group})
    offsets = [TopicPartition(*place, 0) for place in committed(subject.bootstrap, subject.group, subject.topics)]
    assert offsets
    consumer.commit(offsets=offsets, asynchronous=False)
    consumer.close()
