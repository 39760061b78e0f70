"""A run whose model fails and hangs in the middle, against the same run with a model that does not.

The shipped model scores; a wrapper makes it fail, hang or answer what is no number, by a seeded draw for each batch. The worker's
own pipeline and a store in memory are around it.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from stream_app.clock import SettableClock
from stream_app.events import Order, OrderLine
from stream_app.inference.degrade import DegradingRanker
from stream_app.inference.engines.port import Scorer, Tensors
from stream_app.inference.engines.selection import open_scorer
from stream_app.inference.ranker import ModelRanker
from stream_app.inference.retrieval.item_index import load_candidates
from stream_app.metrics import Metrics
from stream_app.store.memory import MemoryStore
from tests.scoring import BASE_MS, make_events, scoring_pipeline
from tests.scoring_run import GROUPS, SHARED, USERS, NotingRanker, Run, log_of

FOLDER = Path(__file__).resolve().parents[3] / "model" / "artifacts" / "demo"
BATCHES, BATCH = 40, 6
PATIENCE_S = 1.0


class Unreliable(Scorer):
    """The model, but for what it is told to do."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__(scorer.manifest)
        self._scorer = scorer
        self.does = "answers"
        self.gate = threading.Event()

    def score(self, inputs: Tensors) -> Tensors:
        if self.does == "hangs":
            self.gate.wait(60)
        if self.does == "fails":
            raise RuntimeError("on purpose")
        answers = dict(self._scorer.score(inputs))
        if self.does == "is no number":
            answers["click"] = np.full_like(answers["click"], np.nan)
        return answers

    def close(self) -> None:
        self._scorer.close()


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A run over the real model, and the handles to spoil it."""

    def __init__(self) -> None:
        self.model = Unreliable(open_scorer(FOLDER, "onnxruntime"))
        self.time, self.registry = Time(), CollectorRegistry()
        inner = ModelRanker(self.model, load_candidates(FOLDER, self.model.manifest), 20)
        ranker = DegradingRanker(inner, PATIENCE_S, Metrics(self.registry), self.time)
        store = MemoryStore(GROUPS, SHARED)
        self.run = Run(scoring_pipeline(store, SettableClock(77), ranker=ranker), store, NotingRanker())

    def answers(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Every answer by topic and answer id; none twice."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for topic, message in self.run.messages():
            assert found.setdefault((topic, message["answer_id"]), message) is message
        return found

    def settle(self) -> None:
        """Wait for the calls that are to come back."""
        for thread in threading.enumerate():
            if thread.name == "model call":
                thread.join(60)

    def end(self) -> None:
        self.model.gate.set()
        self.run.pipeline.model_thread.shutdown()
        self.settle()


@pytest.fixture
def benches() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        bench.end()


def test_nothing_is_lost_what_is_degraded_says_so_the_rest_is_as_without_faults_and_the_model_comes_back(
    benches: list[Bench],
) -> None:
    records = log_of(make_events(BATCHES * BATCH, users=USERS, devices=["d-1", "d-2"]))
    whole, faulty = Bench(), Bench()
    benches += [whole, faulty]
    draw = random.Random(11)
    for number in range(BATCHES):
        batch = records[number * BATCH : (number + 1) * BATCH]
        faulty.model.does = draw.choice(["answers", "fails", "is no number"]) if number < BATCHES // 2 else "answers"
        if number == 10:
            faulty.model.does = "hangs"  # one call, for longer than there is time
        faulty.time.now += draw.choice([0.1, 2.0])
        for bench in (whole, faulty):
            asyncio.run(bench.run.batch(batch))
        if number == 15:
            faulty.model.gate.set()
        if number >= 15:
            faulty.settle()
    expected, found = whole.answers(), faulty.answers()
    assert {key for key in found if key[0] != "fraud-alerts"} == {key for key in expected if key[0] != "fraud-alerts"}
    degraded = {key for key, message in found.items() if message.get("degraded")}
    assert len(degraded) > 50
    for key, message in found.items():
        if key not in degraded:
            assert message == expected[key]
        elif key[0] == "recommendation-candidates":
            assert message["items"] == []
    assert faulty.run.state() == whole.run.state()  # the history is kept whoever answers
    assert not any(message.get("degraded") for _, message in faulty.run.messages()[-3 * BATCH :])
    events = faulty.registry.get_sample_value("millrace_degraded_events_total")
    assert events == len([key for key in degraded if key[0] == "intent-labels"])
    assert faulty.registry.get_sample_value("millrace_degraded") == 0


def test_the_journal_says_of_each_batch_whether_it_was_degraded_and_which_model_would_have_answered(benches: list[Bench]) -> None:
    records = log_of(make_events(30, users=USERS, devices=["d-1"]))
    bench = Bench()
    benches.append(bench)
    for number, does in enumerate(("answers", "fails", "answers")):
        bench.model.does = does
        asyncio.run(bench.run.batch(records[number * 10 : (number + 1) * 10]))
    outboxes = bench.run.outboxes
    assert {outbox.journal.model_version for outbox in outboxes} == {bench.model.version}
    assert {outbox.journal.degraded for outbox in outboxes} == {True, False}
    for outbox in outboxes:
        answers = [msgspec.json.decode(value) for found in outbox.topics.values() for value in found.values]
        assert {answer.get("degraded", False) for answer in answers} == {outbox.journal.degraded}


def test_rules_still_raise_alerts_and_no_probability_does(benches: list[Bench]) -> None:
    bench = Bench()
    benches.append(bench)
    orders = [
        Order(
            event_id=f"o-{number}",
            user="u-1",
            session="s",
            device="d",
            ip="203.0.113.1",
            event_time_ms=BASE_MS + number * 60_000,
            lines=[OrderLine(item="i-1", category="c-1", unit_price=10.0)],
            amount=10.0,
            currency="EUR",
            payment_instrument=f"card-{number}",
            shipping_address="a",
        )
        for number in range(12)
    ]
    bench.model.does = "fails"
    asyncio.run(bench.run.batch(log_of(orders)))
    alerts = [message for topic, message in bench.run.messages() if topic == "fraud-alerts"]
    assert 1 <= len(alerts) < 12
    for alert in alerts:
        assert alert["rules"] == ["card_testing_velocity"]
        assert alert["degraded"] is True
        assert alert["probability"] == 0.0
        assert alert["reasons"]
