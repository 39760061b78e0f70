"""Whole workers on real Kafka and Redis, killed, stopped and crowded: nothing is lost, and nothing counts twice."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from stream_app.admin.doctor_services import check_partitioners, check_positions
from stream_app.events import SOURCE_TOPICS
from tests.chaos.deployment import PARTITIONS, Deployment
from tests.chaos.redis_past import snapshot
from tests.integration.transport_harness import committed, until
from tests.scoring import make_events, record_of, topic_of

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

SLOW_BATCHES = {"buffer_events": 160, "drain_timeout_ms": 2_000}
# A static member that comes back under its name need not wait until the broker has missed it.
SAME = "the-same"


@pytest.fixture
def deployment(
    kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> Iterator[Deployment]:
    deployment = Deployment(kafka_bootstrap, redis_url, topic_prefix, redis_prefix, tmp_path)
    yield deployment
    deployment.stop_all()


# A row is a succession of workers, each of which dies at [point, n]: when it passes this point for the n-th time. With the last
# worker, which lives, they pass every place between two steps of: prepare, commit, publish, mark, acknowledge, commit of offsets.
DEATHS = {
    "prepared, scored, half published, published": [
        ["read-before", 2],
        ["commit-before", 2],
        ["publish-half", 2],
        ["publish-after", 2],
    ],
    "committed, published again, marked": [["commit-after", 2], ["mark_published-before", 1], ["mark_published-after", 1]],
    "not acknowledged, offsets not committed, committed": [["handle-after", 1], ["offsets-before", 1], ["offsets-after", 1]],
}


@pytest.mark.parametrize("deaths", DEATHS.values(), ids=DEATHS.keys())
def test_workers_killed_between_every_two_steps(deployment: Deployment, deaths: list[list[object]]) -> None:
    deployment.produce(200)
    for death in deaths:
        die(deployment, death)
        deployment.produce(100)
    deployment.start(instance=SAME)
    deployment.settle()
    deployment.check_journal()


def test_an_outbox_that_the_broker_refuses_ends_a_worker_that_has_nothing_else_to_do(deployment: Deployment) -> None:
    deployment.produce(40)
    deployment.start(instance=SAME)
    until(lambda: deployment.answered() == 40, "all are answered")
    deployment.workers[0].kill()  # the last answers of each group are still in its outbox
    idle = deployment.start(instance=SAME, refused=True)
    assert idle.wait(60) == 1
    assert "refuses 1 groups, on purpose" in deployment.log(1).read_text()
    deployment.start(instance=SAME)
    deployment.settle()


def test_without_the_fence_a_killed_worker_counts_twice(deployment: Deployment) -> None:
    deployment.produce(200)
    die(deployment, ["commit-after", 2], fence=False)
    deployment.start(instance=SAME, fence=False)
    with pytest.raises(AssertionError, match=r"^(miscounted|differing): "):
        deployment.settle()


def die(deployment: Deployment, death: list[object], *, fence: bool = True) -> None:
    worker = deployment.start(instance=SAME, kill=death, fence=fence)
    assert worker.wait(60) == -signal.SIGKILL, f"the worker never passed {death}"


@pytest.mark.case("worker stopped beyond its session")
def test_a_worker_stopped_beyond_its_session_and_continued(deployment: Deployment) -> None:
    zombie, heir = stop_and_continue(deployment, fence=True)
    assert zombie.poll() is None, "the fence is no reason to end: the group gives it new partitions"
    deployment.produce(60)
    deployment.settle()
    assert (zombie.returncode, heir.returncode) == (0, 0)


@pytest.mark.case("worker paused while the model is asked")
def test_the_time_of_a_pause_is_not_the_models(deployment: Deployment) -> None:
    deployment.produce(100)
    worker = deployment.start(delay_s=1, limit_s=2)
    until(lambda: "the model is asked" in deployment.log(0).read_text(), "the model is asked")
    worker.send_signal(signal.SIGSTOP)
    time.sleep(3)  # beyond the limit of a call, within the session
    worker.send_signal(signal.SIGCONT)
    deployment.settle()
    assert not [value for *_, value in deployment.answers if json.loads(value).get("degraded")]
    assert "this process stood still" in deployment.log(0).read_text()


def test_without_the_fence_a_zombie_counts_twice(deployment: Deployment) -> None:
    stop_and_continue(deployment, fence=False)
    with pytest.raises(AssertionError, match=r"^(miscounted|differing): "):
        deployment.settle()


def stop_and_continue(deployment: Deployment, *, fence: bool) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    deployment.produce(300)
    zombie = deployment.start(delay_s=1, fence=fence, options=SLOW_BATCHES)
    until(lambda: deployment.commits() > 0, "the first batch is committed")
    zombie.send_signal(signal.SIGSTOP)  # with batches in flight
    heir = deployment.start(fence=fence)
    until(lambda: deployment.answered() >= len(deployment.events), "the heir has answered all")
    before = deployment.commits()
    zombie.send_signal(signal.SIGCONT)
    if not fence:
        until(lambda: deployment.commits() > before, "the zombie has written")
    return zombie, heir


def test_slow_batches_with_workers_joining_leaving_and_killed(deployment: Deployment) -> None:
    # A batch of 3 s outlasts the drain of 2 s: at each rebalance batches of the old assignment are still running.
    deployment.produce(400)
    first = deployment.start(delay_s=3, options=SLOW_BATCHES)
    until(lambda: deployment.commits() > 0, "the first has committed")
    second = deployment.start(delay_s=3, options=SLOW_BATCHES)
    joined = deployment.log(1)
    until(lambda: "owns groups" in joined.read_text(), "the second has joined")
    deployment.start(options=SLOW_BATCHES)
    first.terminate()
    second.kill()
    deployment.settle()
    assert first.returncode == 0


def test_a_rebalance_before_the_first_commit(deployment: Deployment) -> None:
    never = {"commit_interval_ms": 600_000}
    deployment.produce(400)
    first = deployment.start(delay_s=0.2, options=never)
    until(lambda: deployment.commits() > 0, "the first has applied something")
    first.kill()
    topics = [deployment.settings.topic(name) for name in ("searches", "clicks", "orders")]
    assert committed(deployment.bootstrap, deployment.settings.kafka.group, topics) == {}
    deployment.start(options=never)
    deployment.start(options=never)
    deployment.settle()


@pytest.mark.case("aborted transactions")
def test_aborted_transactions_are_never_scored(deployment: Deployment) -> None:
    deployment.produce(60)
    deployment.start()
    for _ in range(2):
        deployment.produce_in_transaction(150, commit=False)
        deployment.produce_in_transaction(100, commit=True)
    deployment.produce_in_transaction(60, commit=False)
    deployment.settle()
    deployment.check_journal()


@pytest.mark.case("Redis restored to an earlier state")
def test_redis_goes_back_in_time_under_a_running_worker(deployment: Deployment) -> None:
    deployment.produce(100)
    worker = deployment.start()
    until(lambda: deployment.answered() == 100, "the first hundred are answered")
    taken = snapshot(deployment.redis_url, deployment.redis_prefix)
    deployment.produce(100)
    until(lambda: deployment.answered() == 200, "the second hundred are answered")
    deployment.go_back(taken)
    deployment.produce(100)
    assert worker.wait(60) == 1, "it must not go on from a position that the store does not have"
    assert "has lost writes or was restored" in deployment.log(0).read_text()
    deployment.start()
    deployment.settle()


@pytest.mark.case("Redis emptied under an idle worker")
def test_an_idle_worker_notices_that_redis_was_emptied(deployment: Deployment) -> None:
    deployment.produce(60)
    worker = deployment.start()
    until(lambda: deployment.answered() == 60, "all are answered")
    fronts = deployment.fronts()
    deployment.go_back({})
    assert worker.wait(60) == 1
    assert "has lost writes or was restored" in deployment.log(0).read_text()
    deployment.start()
    until(lambda: deployment.fronts() == fronts, "all is decided again")
    deployment.settle()


@pytest.mark.case("producers with two partitioners")
def test_producers_with_two_partitioners_are_noticed(deployment: Deployment) -> None:
    kafka = deployment.settings.kafka
    events = make_events(600, users=[f"u-{number}" for number in range(300)], devices=["d"])
    warning, log = "producers choose partitions in different ways", deployment.log(0)
    deployment.start()
    for partitioner, status in (("murmur2_random", "OK"), ("consistent_random", "WARN")):
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": partitioner})
        for event in events:
            producer.produce(kafka.topic_prefix + topic_of(event), record_of(event, 0, 0).value, event.user)
        assert producer.flush(30) == 0
        [found] = check_partitioners(kafka.bootstrap, kafka.topic_prefix, PARTITIONS)
        assert found.status == status, found
        if status == "WARN":
            until(lambda: warning in log.read_text(), "the worker warns")
        else:
            until(lambda: deployment.answered() == len(events), "all are answered")
            assert warning not in log.read_text()


@pytest.mark.case("topic made anew")
@pytest.mark.parametrize("running", [True, False], ids=["under a worker", "between two"])
def test_a_topic_made_anew_is_refused_until_its_fronts_are_dropped(deployment: Deployment, running: bool) -> None:
    deployment.produce(60)
    worker = deployment.start()
    until(lambda: deployment.answered() == 60, "all are answered")
    if not running:
        worker.terminate()
        assert worker.wait(30) == 0
    make_clicks_anew(deployment)
    deployment.events.clear()
    deployment.produce(200)  # the new log is longer than the old front
    if running:  # it may end before it compares ids: a position is out of range, a topic is not there
        assert worker.wait(60) == 1
    assert deployment.start().wait(60) == 1
    assert "topic clicks was deleted and made anew" in deployment.log(1).read_text()
    kafka, state = deployment.settings.kafka, deployment.settings.redis
    found = list(check_positions(kafka.bootstrap, kafka.topic_prefix, state.url, state.prefix, 1_000))
    assert any(check.status == "FAIL" and "topic clicks was deleted" in check.finding for check in found), found
    with redis.Redis.from_url(deployment.redis_url) as client:  # as the runbook says
        for group in range(PARTITIONS):
            client.hdel(f"{deployment.redis_prefix}:{{g{group}}}:meta", "front:clicks")
        client.hdel(f"{deployment.redis_prefix}:topics", "clicks")
    deployment.answers.clear()
    deployment.start()
    until(lambda: deployment.answered() == len(deployment.events), "every event of the new log is answered")


@pytest.mark.case("another program in the consumer group")
def test_a_program_that_joins_the_group_of_a_worker_is_refused(deployment: Deployment) -> None:
    worker = deployment.start()
    until(lambda: "owns groups" in deployment.log(0).read_text(), "the worker has its partitions")
    with stranger(deployment) as consumer:
        deployment.produce(100)
        error = consumer.consume(1, 10)[0].error()
        assert error is not None
        assert error.code() == KafkaError.INCONSISTENT_GROUP_PROTOCOL
        assert worker.poll() is None
    deployment.settle()


@pytest.mark.case("another program in the consumer group")
@pytest.mark.parametrize(
    ("protocol", "words"),
    [({}, "the broker refuses this worker as a member"), ({"group.protocol": "consumer"}, "group.protocol=consumer has joined")],
)
def test_a_worker_in_the_group_of_another_program_says_who_it_is(
    deployment: Deployment, protocol: dict[str, str], words: str
) -> None:
    with stranger(deployment, **protocol) as consumer:
        consumer.consume(1, 10)
        worker = deployment.start()
        assert worker.wait(60) == 1
        log = deployment.log(0).read_text()
        assert words in log or "but not" in log, log
        assert "members of group" in log.lower()
        assert "'shipping' at 127.0.0.1" in log
    deployment.produce(100)
    deployment.start()
    deployment.settle()


@pytest.mark.case("another program in the consumer group")
def test_a_program_with_the_newer_protocol_ends_a_running_worker(deployment: Deployment) -> None:
    worker = deployment.start()
    until(lambda: "owns groups" in deployment.log(0).read_text(), "the worker has its partitions")
    with stranger(deployment, **{"group.protocol": "consumer", "group.remote.assignor": "range"}) as consumer:
        until(lambda: not consumer.consume(1, 0.1) and worker.poll() is not None, "the worker has ended")
        assert worker.returncode == 1
        assert "'shipping' at 127.0.0.1" in deployment.log(0).read_text()
    deployment.produce(100)
    deployment.start()
    deployment.settle()


def make_clicks_anew(deployment: Deployment) -> None:
    admin, clicks = AdminClient({"bootstrap.servers": deployment.bootstrap}), deployment.settings.topic("clicks")
    admin.delete_topics([clicks])[clicks].result(timeout=30)

    def made() -> bool:
        try:
            admin.create_topics([NewTopic(clicks, PARTITIONS, 1)])[clicks].result(timeout=30)
        except KafkaException:  # not gone yet
            return False
        return True

    until(made, "the topic can be made anew")


@contextmanager
def stranger(deployment: Deployment, **settings: str) -> Iterator[Consumer]:
    """A program that consumes the source topics in the workers' group."""
    names = {"bootstrap.servers": deployment.bootstrap, "group.id": deployment.settings.kafka.group, "client.id": "shipping"}
    consumer = Consumer({**names, **settings})
    consumer.subscribe([deployment.settings.topic(name) for name in SOURCE_TOPICS])
    try:
        yield consumer
    finally:
        consumer.close()


@pytest.mark.case("partitions added to a topic")
def test_partitions_added_to_a_topic_end_a_worker_and_leave_no_keys(deployment: Deployment) -> None:
    deployment.produce(40)
    worker = deployment.start()
    until(lambda: deployment.answered() == 40, "all are answered")
    clicks = f"{deployment.topic_prefix}clicks"
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap})
    admin.create_partitions([NewPartitions(clicks, 2 * PARTITIONS)])[clicks].result(timeout=30)
    late = deployment.start()
    worker.terminate()  # the other one leads the group now, and knows the new partitions
    until(lambda: late.poll() is not None, "the worker has ended")
    assert late.returncode == 1
    assert "partitions were added while this worker ran" in deployment.log(1).read_text()
    keys = [f"{deployment.redis_prefix}:{{g{group}}}:meta" for group in range(PARTITIONS, 2 * PARTITIONS)]
    with redis.Redis.from_url(deployment.redis_url) as client:
        assert not client.exists(*keys)
