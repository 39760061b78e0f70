"""Rules alone when the model fails or is too slow: every event is answered, each answer says how, and the model comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from model.contract import INPUTS
from stream_app.errors import ContractError, ModelFailedError
from stream_app.inference import degrade
from stream_app.inference.breaker import Breaker
from stream_app.inference.degrade import DegradingRanker, Inputs, rules_only
from stream_app.metrics import Metrics
from stream_app.ranked import ModelNorms, RankedBatch

NORMS = ModelNorms("model-1", 0.5, np.zeros(3, np.float32), np.ones(3, np.float32))
PATIENCE_S = 0.5  # what the model may take
LONG_S = 10.0  # no test comes near it


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Model:
    """A model that answers, fails or hangs on command."""

    norms = NORMS

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.gate = threading.Event()  # set: it answers at once
        self.gate.set()
        self.begun = threading.Semaphore(0)
        self.done = threading.Semaphore(0)
        self.calls = 0
        self.serves = "model-1"

    def rank(self, inputs: Inputs, users: Sequence[bytes]) -> RankedBatch:
        self.calls += 1
        self.begun.release()
        assert self.gate.wait(LONG_S)
        try:
            if self.error is not None:
                raise self.error
            scored = rules_only(len(users), NORMS)
            return RankedBatch(scored.scored, inputs["dense"][:, 0], NORMS, ["model-1"] * len(users))
        finally:
            self.done.release()


class Bench:
    def __init__(self, max_score_s: float) -> None:
        self.model, self.clock, self.registry = Model(), Clock(), CollectorRegistry()
        self.ranker = DegradingRanker(self.model, max_score_s, Metrics(self.registry), self.clock)

    def rank(self, rows: int = 2) -> RankedBatch:
        inputs = {spec.name: np.ones((rows, *[3 if n == -1 else n for n in spec.shape]), spec.dtype) for spec in INPUTS}
        ranked = self.ranker.rank(inputs, [b"u"] * rows)
        assert len(ranked.versions) == len(ranked.fraud) == len(ranked.scored.fraud) == rows  # nothing is lost
        return ranked

    def probed(self) -> None:
        """Wait until the model is through with the probe that was begun."""
        assert self.model.done.acquire(timeout=LONG_S)
        for thread in threading.enumerate():
            if thread.name == "model call":
                thread.join(LONG_S)

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture(params=[0.0, LONG_S], ids=["no limit", "with a limit"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


@pytest.fixture
def slow() -> Iterator[Bench]:
    made = Bench(PATIENCE_S)
    yield made
    made.model.gate.set()


def test_what_the_model_answers_goes_through_untouched(bench: Bench) -> None:
    ranked = bench.rank()
    assert not ranked.degraded
    assert ranked.fraud.tolist() == [1.0, 1.0]
    assert bench.ranker.version == "model-1"


def test_degraded_answers_claim_nothing_and_no_probability_raises_an_alert() -> None:
    ranked = rules_only(3, ModelNorms("model-1", 0.0, NORMS.medians, NORMS.scales))
    assert ranked.degraded
    assert list(ranked.versions) == ["model-1"] * 3
    assert ranked.scored.items == [[], [], []]
    assert (ranked.fraud < ranked.thresholds()).all()  # even where the threshold is 0


def test_a_batch_that_the_model_fails_on_is_answered_by_rules_and_the_next_one_by_the_model(bench: Bench) -> None:
    bench.model.error = ModelFailedError("not finite for row 1")
    assert bench.rank(5).degraded
    bench.model.error = None
    assert not bench.rank().degraded
    assert bench.value("millrace_degraded_events_total") == 5
    assert bench.value("millrace_model_failures_total", reason="failed") == 1
    assert bench.value("millrace_degraded") == 0


def test_after_three_failures_in_a_row_the_model_is_left_alone_until_a_probe_succeeds(bench: Bench) -> None:
    bench.model.error = RuntimeError("broken")
    for _ in range(3):
        assert bench.rank().degraded
    assert bench.value("millrace_degraded") == 1
    bench.clock.now += 0.9
    assert bench.rank().degraded
    assert bench.model.calls == 3  # not asked
    bench.clock.now += 0.2
    while bench.model.done.acquire(blocking=False):
        pass
    bench.model.error = None
    assert bench.rank().degraded  # the probe runs beside; this batch does not wait for it
    bench.probed()
    assert not bench.rank().degraded
    assert bench.value("millrace_degraded") == 0
    assert bench.value("millrace_degraded_events_total") == 10


def test_each_failed_probe_doubles_the_wait_up_to_a_minute(bench: Bench) -> None:
    bench.model.error = RuntimeError("broken")
    for _ in range(3):
        bench.rank()
    while bench.model.done.acquire(blocking=False):
        pass
    waits = []
    for _ in range(9):
        began, calls = bench.clock.now, bench.model.calls
        while bench.model.calls == calls:
            bench.clock.now += 0.5
            bench.rank()
        waits.append(bench.clock.now - began)
        bench.probed()
        bench.rank()  # learns of it, which is when the next wait begins
    assert waits[:3] == [1.0, 2.0, 4.0]
    assert waits[-1] == 60.0


def test_an_error_of_those_who_call_the_model_stays_fatal(bench: Bench) -> None:
    bench.model.error = ContractError("the feature engine and the contract disagree")
    with pytest.raises(ContractError, match="disagree"):
        bench.rank()
    assert bench.value("millrace_degraded_events_total") == 0


def test_a_contract_error_of_a_probe_is_fatal_too(bench: Bench) -> None:
    bench.model.error = RuntimeError("broken")
    for _ in range(3):
        bench.rank()
    while bench.model.done.acquire(blocking=False):
        pass
    bench.model.error = ContractError("the scorer is closed")
    bench.clock.now += 2
    bench.rank()
    bench.probed()
    with pytest.raises(ContractError, match="closed"):
        bench.rank()


def test_a_call_that_takes_too_long_is_left_behind_and_its_late_answer_thrown_away(slow: Bench) -> None:
    slow.model.gate.clear()
    assert slow.rank(7).degraded
    assert slow.value("millrace_degraded") == 1
    assert slow.value("millrace_model_calls_hung") == 1
    assert slow.value("millrace_model_failures_total", reason="too_slow") == 1
    assert slow.rank().degraded  # at once: the model is not asked
    assert slow.model.calls == 1
    slow.model.gate.set()  # it comes back, too late
    slow.probed()
    assert slow.rank().degraded
    slow.clock.now += 1.1
    assert slow.rank().degraded
    slow.probed()
    assert not slow.rank().degraded
    assert slow.value("millrace_model_calls_hung") == 0


def test_no_more_than_three_calls_hang_however_long_the_model_does(slow: Bench) -> None:
    slow.model.gate.clear()
    for _ in range(200):
        slow.clock.now += 30.0  # every wait and every patience is over
        assert slow.rank().degraded
    assert slow.model.calls == slow.value("millrace_model_calls_hung") == 3
    slow.model.gate.set()
    for _ in range(3):
        slow.probed()
    slow.clock.now += 61.0
    assert slow.rank().degraded
    slow.probed()
    assert not slow.rank().degraded


def test_another_model_in_the_place_of_one_that_hangs_is_tried_at_once_and_three_calls_of_each_may_hang(slow: Bench) -> None:
    slow.model.gate.clear()
    for _ in range(100):
        slow.clock.now += 30.0
        assert slow.rank().degraded
    assert slow.model.calls == 3
    gate, slow.model.gate = slow.model.gate, threading.Event()
    slow.model.serves = "model-0"  # rolled back, and it hangs as well
    assert slow.rank().degraded
    for _ in range(100):
        slow.clock.now += 30.0
        assert slow.rank().degraded
    assert slow.model.calls == slow.value("millrace_model_calls_hung") == 6
    other, slow.model.gate = slow.model.gate, threading.Event()
    slow.model.gate.set()
    slow.model.serves = "model-1 and model-2"  # and this one answers, while all six still hang
    try:
        assert slow.rank().degraded  # tried at once: the clock has not moved
        assert slow.model.done.acquire(timeout=LONG_S)
        for _ in range(100_000):
            if not slow.rank().degraded:
                break
        assert slow.value("millrace_degraded") == 0
        slow.model.serves = "model-1"  # back to the one of which three hang: it is not called
        calls = slow.model.calls
        assert slow.rank().degraded
        assert slow.model.calls == calls
        assert slow.value("millrace_degraded") == 1
    finally:
        gate.set()
        other.set()
        for _ in range(6):
            assert slow.model.done.acquire(timeout=LONG_S)


def test_what_a_probe_of_a_replaced_model_says_is_not_held_against_the_next(slow: Bench) -> None:
    slow.model.error = RuntimeError("broken")
    for _ in range(3):
        slow.rank()
    for _ in range(3):
        assert slow.model.done.acquire(timeout=LONG_S)
    slow.clock.now += 1.1
    slow.rank()
    slow.probed()  # and nobody has seen yet that it failed
    slow.model.error, slow.model.serves = None, "model-0"
    slow.rank()
    slow.probed()
    assert not slow.rank().degraded


def test_a_call_that_ends_just_when_its_time_is_over_is_an_answer(slow: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class JustOver(degrade._Call):
        def exception(self, timeout: float | None = None) -> BaseException | None:
            super().exception(LONG_S)
            raise TimeoutError

    monkeypatch.setattr(degrade, "_Call", JustOver)
    assert not slow.rank().degraded
    assert slow.value("millrace_model_failures_total", reason="failed") == 0


def test_a_pause_of_the_process_is_not_counted_against_a_probe(slow: Bench) -> None:
    slow.model.error = RuntimeError("broken")
    for _ in range(3):
        slow.rank()
    while slow.model.done.acquire(blocking=False):
        pass
    slow.model.error = None
    slow.model.gate.clear()
    slow.clock.now += 1.1
    slow.rank()  # the probe begins
    slow.clock.now += 3600.0
    assert slow.rank().degraded
    slow.model.gate.set()
    slow.probed()
    assert not slow.rank().degraded
    assert slow.value("millrace_model_failures_total", reason="too_slow") == 0


def test_a_time_out_that_the_model_raises_itself_is_a_failure_not_a_hang(slow: Bench) -> None:
    slow.model.error = TimeoutError("of some client inside")
    assert slow.rank().degraded
    assert slow.value("millrace_model_failures_total", reason="failed") == 1
    assert slow.value("millrace_model_calls_hung") == 0


@given(st.lists(st.tuples(st.sampled_from(["answers", "fails", "hangs"]), st.floats(0.1, 90.0)), max_size=30))
def test_whatever_the_model_does_every_event_is_answered_and_counted_once_by_how(course: list[tuple[str, float]]) -> None:
    bench = Bench(0.001)
    degraded = answered = 0
    try:
        for number, (does, passes_s) in enumerate(course):
            bench.model.error = RuntimeError("broken") if does == "fails" else None
            (bench.model.gate.clear if does == "hangs" else bench.model.gate.set)()
            bench.clock.now += passes_s
            if bench.rank(number + 1).degraded:
                degraded += number + 1
            else:
                answered += number + 1
    finally:
        bench.model.gate.set()
    assert degraded + answered == sum(range(1, len(course) + 1))
    assert bench.value("millrace_degraded_events_total") == degraded


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0.0, 100.0)), max_size=60))
def test_the_breaker_waits_between_a_second_and_a_minute_and_any_success_closes_it(
    course: list[tuple[bool, bool, float]],
) -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for ok, too_slow, passes_s in course:
        clock.now += passes_s
        if ok:
            breaker.succeeded()
            assert breaker.opened_at is None
        else:
            breaker.failed(too_slow=too_slow)
            assert not too_slow or breaker.opened_at is not None
            assert not breaker.probe_is_due()
            clock.now += 60.0
            assert breaker.probe_is_due()
        assert 1.0 <= breaker.wait_s <= 60.0
