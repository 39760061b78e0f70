"""Rates, percentiles, the load's events, the schedule of disturbances."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from benchmarks.live.latency import Appends, drain_rate, percentiles
from benchmarks.live.workload import Workload
from stream_app.codec.decode import EVENT_TYPES
from verification.disturbances import Disturbance, Schedule


def test_a_drain_rate_leaves_the_first_tenth_out() -> None:
    slow_start = np.array([0] * 10 + [10_000 + i for i in range(90)])  # ten at once, a long pause, then one a millisecond
    assert drain_rate(np.random.default_rng(1).permutation(slow_start)) == pytest.approx(1_000.0)


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        drain_rate(np.array([5] * 100))


def test_latency_is_from_append_to_append_without_the_warm_up() -> None:
    source = np.arange(0, 10_000, 10)
    answer = source + np.where(source < 3_000, 900, 20)
    assert percentiles(Appends(source, answer), warm_up_ms=3_000) == {"p50": 20.0, "p95": 20.0, "p99": 20.0}


def test_percentiles_of_nothing_say_so() -> None:
    empty = np.array([], np.int64)
    with pytest.raises(ValueError, match="no answers"):
        percentiles(Appends(empty, empty), 0)
    with pytest.raises(ValueError, match="longer"):
        percentiles(Appends(np.array([1, 2]), np.array([3, 4])), 100)


def test_every_event_of_the_load_is_valid_for_its_topic() -> None:
    topics = set()
    for topic, key, value in Workload(1_700_000_000_000, 0.5).records(500):
        topics.add(topic)
        event = msgspec.json.decode(value, type=EVENT_TYPES[topic])
        assert event.user.encode() == key
    assert topics == {"clicks", "searches", "orders"}


def test_the_load_is_the_same_for_the_same_seed_and_rises_in_time() -> None:
    one, two = (list(Workload(10_000, 2.0, seed=3).records(200)) for _ in range(2))
    assert one == two
    assert one != list(Workload(10_000, 2.0, seed=4).records(200))
    times = [msgspec.json.decode(value)["event_time_ms"] for _, _, value in one]
    assert times == list(range(10_000, 10_400, 2))


def test_users_come_back_as_by_zipf() -> None:
    keys = [key for _, key, _ in Workload(0, 1.0).records(20_000)]
    counts = sorted((keys.count(key) for key in set(keys)), reverse=True)
    assert counts[0] / len(keys) == pytest.approx(0.088, abs=0.01)
    assert len(counts) > 4_000


def test_disturbances_happen_in_order_one_at_a_time_when_their_share_is_reached() -> None:
    seen: list[str] = []
    schedule = Schedule(
        [Disturbance("kill", 0.2, lambda: seen.append("a")), Disturbance("sigterm", 0.5, lambda: seen.append("b"))]
    )
    assert schedule.step(0.1) is None
    assert schedule.step(0.9) is not None
    assert seen == ["a"]
    assert schedule.step(1.0) is not None
    assert seen == ["a", "b"]
    assert schedule.step(1.0) is None
    assert schedule.count("kill") == 1
    assert schedule.count("sigterm") == 0  # too late: nothing was left to disturb
