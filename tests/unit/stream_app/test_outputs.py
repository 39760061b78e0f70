"""The outcome of each record: every offset has exactly one, and its message is complete.

Runs the worker's own pipeline, without a model, over the store in memory.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from stream_app.clock import SettableClock
from stream_app.decision.decide import Decider
from stream_app.decision.rules import RuleSet
from stream_app.events import DeadLetter, Order
from stream_app.inference.ranker import PriorRanker
from stream_app.ranked import ModelNorms, RankedBatch
from stream_app.store.memory import MemoryStore
from tests.scoring import BASE_MS, Record, make_events, record_of, scoring_engine, scoring_pipeline, topic_of
from tests.scoring_run import GROUPS, SHARED, USERS, NotingRanker, Run, log_of, new_run


@pytest.fixture
def run() -> Iterator[Run]:
    made = new_run()
    yield made
    made.pipeline.model_thread.shutdown()


def test_every_offset_has_exactly_one_outcome(run: Run) -> None:
    events = make_events(120, users=USERS, devices=["d-1", "d-2"])
    old = [msgspec.structs.replace(e, event_time_ms=e.event_time_ms - 90_000_000) for e in events[-20:]]
    records = log_of([*events, *old])
    records = [
        *(r for r in records if r.timestamp >= BASE_MS),
        *(r for r in records if r.timestamp < BASE_MS),
    ]  # the late come last
    ends: Counter[tuple[str, int]] = Counter()
    mixed: list[Record] = []
    for number, record in enumerate(records):
        place = (record.topic, record.partition)
        bad = number % 7 == 3
        mixed.append(
            replace(record, offset=ends[place], value=b"{broken" if bad else record.value, headers=[("h", b"\xff"), ("n", None)])
        )
        ends[place] += 1
    for at in range(0, len(mixed), 25):
        asyncio.run(run.batch(mixed[at : at + 25]))
    outcomes: dict[tuple[str, int, int], list[str]] = defaultdict(list)
    for topic, message in run.messages():
        source = message["source"]
        outcomes[source["topic"], source["partition"], source["offset"]].append(topic)
        assert message["answer_id"] == f"{source['topic']}-{source['partition']}-{source['offset']}"
    assert outcomes.keys() == {(r.topic, r.partition, r.offset) for r in mixed}
    kinds = Counter(tuple(sorted(topics)) for topics in outcomes.values())
    assert kinds.keys() == {("intent-labels", "recommendation-candidates"), ("dead-letters",), ("late-events",)}
    broken = {(r.topic, r.partition, r.offset) for r in mixed if r.value == b"{broken"}
    assert {place for place, topics in outcomes.items() if topics == ["dead-letters"]} == broken
    assert kinds["late-events",] > 10


@pytest.mark.parametrize(("cut", "late", "in_time"), [(1, 1, 0), (3, 0, 1)])
def test_the_cut_of_batches_decides_what_is_late_and_a_metric_counts_the_difference(
    run: Run, cut: int, late: int, in_time: int
) -> None:
    click = next(event for event in make_events(60, users=["u-0"], devices=["d"]) if topic_of(event) == "clicks")
    records = [
        record_of(msgspec.structs.replace(click, event_id=f"e{hours}", event_time_ms=BASE_MS + hours * 3_600_000), 0, offset)
        for offset, hours in enumerate((30, 0, 20))
    ]
    for at in range(0, len(records), cut):
        asyncio.run(run.batch(records[at : at + cut]))
    assert [topic for topic, _ in run.messages()].count("late-events") == late
    assert run.pipeline.outputs.metrics.in_time_by_batch.labels("clicks")._value.get() == in_time


def test_a_late_event_changes_no_state_and_tells_how_late_it_is(run: Run) -> None:
    record = record_of(make_events(1, users=["u-0"], devices=["d"])[0], 0, 0)
    asyncio.run(run.batch([record]))
    before = run.state()
    event = make_events(1, users=["u-0"], devices=["d"])[0]
    late = msgspec.structs.replace(event, event_time_ms=event.event_time_ms - 86_400_001, device="never-seen")
    late_record = replace(record_of(late, 0, 1), timestamp=event.event_time_ms)
    asyncio.run(run.batch([late_record]))
    assert run.state() == before
    [(topic, message)] = run.messages()[2:]
    assert topic == "late-events"
    assert (message["late_by_ms"], message["allowed_lateness_ms"]) == (86_400_001, 86_400_000)
    assert msgspec.json.encode(message["event"]) == late_record.value


def test_a_dead_letter_keeps_the_original_to_the_byte(run: Run) -> None:
    every = bytes(range(256))
    record = Record("clicks", 1, 0, BASE_MS, every, every, [("trace", every), ("none", None)])
    asyncio.run(run.batch([record]))
    [outbox] = run.outboxes
    [value] = outbox.topics["dead-letters"].values
    assert outbox.topics["dead-letters"].keys == [every]
    letter = msgspec.json.decode(value, type=DeadLetter)
    assert (letter.key, letter.value, letter.headers) == (every, every, [("trace", every), ("none", None)])
    assert letter.reason.startswith("not JSON")
    assert (letter.place, letter.ingest_time_ms) == ("codec.decode", BASE_MS)


@pytest.mark.parametrize(("key", "value"), [(b"u", b"{" * 5_000_000), (b"k" * 5_000_000, b"{"), (b"u", b"\x01" * 3_100_000)])
def test_a_dead_letter_of_a_giant_fits_its_topic_and_says_what_was_cut(run: Run, key: bytes, value: bytes) -> None:
    asyncio.run(run.batch([Record("clicks", 1, 0, BASE_MS, key, value, [("trace", b"1")])]))
    [outbox] = run.outboxes
    [message_key], [message] = outbox.topics["dead-letters"].keys, outbox.topics["dead-letters"].values
    assert message_key is not None
    assert len(message) + len(message_key) < 4 * 1_048_576
    letter = msgspec.json.decode(message, type=DeadLetter)
    assert "is a giant" in letter.reason
    assert key.startswith(letter.key or b"?")
    assert value.startswith(letter.value or b"?")


def test_the_journal_tells_ranges_reads_and_versions_of_every_step(run: Run) -> None:
    records = log_of(make_events(60, users=USERS, devices=["d"]))
    asyncio.run(run.batch(records[:30]))
    asyncio.run(run.batch(records[30:]))
    first, second = run.outboxes[:GROUPS], run.outboxes[GROUPS:]
    for outboxes, reads in ((first, 0), (second, 1)):
        for outbox in outboxes:
            line = outbox.journal
            assert line.group == outbox.group
            assert line.reads == {str(group): reads for group in range(GROUPS)}
            assert (line.model_version, line.features_version) == ("none", scoring_engine().catalogue_hash)
    for one, next_one in zip(first, second, strict=True):
        for topic, (start, _) in next_one.journal.ranges.items():
            assert start == one.journal.ranges.get(topic, (0, 0))[1]


class FraudRanker(PriorRanker):
    """Finds every order a fraud."""

    def rank(self, inputs: Mapping[str, NDArray[Any]], users: Sequence[bytes]) -> RankedBatch:
        ranked, names = super().rank(inputs, users), scoring_engine().feature_names
        fraud = (inputs["dense"][:, names.index("amount")] > 0).astype(np.float32)
        zeros, scales = np.zeros(len(names), np.float32), np.full(len(names), 1e9, np.float32)
        scales[names.index("amount")] = 1.0  # so that it stands out most
        norms = ModelNorms(self.version, 0.5, zeros, scales)
        return replace(ranked, scored=replace(ranked.scored, fraud=fraud.tolist()), fraud=fraud, champion=norms)


def test_an_alert_carries_the_order_and_its_label_says_that_there_is_one() -> None:
    names = scoring_engine().feature_names
    decider = Decider(rules=RuleSet((), names), feature_names=names)
    store = MemoryStore(GROUPS, SHARED)
    pipeline = scoring_pipeline(store, SettableClock(77), ranker=FraudRanker(), decider=decider)
    run = Run(pipeline, store, NotingRanker())
    events = make_events(40, users=USERS, devices=["d"])
    asyncio.run(run.batch(log_of(events)))
    pipeline.model_thread.shutdown()
    orders = {e.event_id: e for e in events if isinstance(e, Order)}
    alerts = {m["event_id"]: m for topic, m in run.messages() if topic == "fraud-alerts"}
    labels = {m["event_id"]: m["fraud_alert"] for topic, m in run.messages() if topic == "intent-labels"}
    assert alerts.keys() == orders.keys()
    assert labels == {e.event_id: e.event_id in orders for e in events}
    for identifier, alert in alerts.items():
        assert (alert["amount"], alert["currency"], alert["probability"]) == (orders[identifier].amount, "EUR", 1.0)
        assert {"feature": "amount", "usual": 0.0, "value": pytest.approx(alert["amount"], abs=0.01)} in alert["reasons"]
