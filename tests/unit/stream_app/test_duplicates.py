"""An event that its producer sent twice is counted once, and the second time it gets what was answered the first time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from stream_app.decision.decide import Decider
from stream_app.decision.rules import RuleSet
from stream_app.events import Click, Event, Order, OrderLine
from stream_app.inference.ranker import PriorRanker
from stream_app.ranked import RankedBatch
from stream_app.store.memory import MemoryStore
from tests.scoring import BASE_MS, Record, TickingClock, make_events, record_of, scoring_engine, scoring_pipeline, topic_of
from tests.scoring_run import GROUPS, SHARED, NotingRanker, Run

OWN_FIELDS = ("answer_id", "source", "ingest_time_ms", "duplicate_of")  # what may differ between two answers to one event
ORDER = Order(
    event_id="o-1", user="u-1", event_time_ms=BASE_MS, amount=70.0, currency="EUR", lines=[OrderLine(item="i-1", category="c-1")]
)
CLICK = Click(event_id="k-1", user="u-1", event_time_ms=BASE_MS + 1_000, action="view", item="i-2", device="d-1")


class MoodyRanker(PriorRanker):
    """Answers something else each time, so that repeated answers differ from answers that are decided again."""

    def __init__(self) -> None:
        self._calls = 0

    def rank(self, inputs: Mapping[str, NDArray[Any]], users: Sequence[bytes]) -> RankedBatch:
        ranked = super().rank(inputs, users)
        self._calls += 1
        fraud = (0.5 + np.arange(len(users)) / 1_000 + self._calls / 100).astype(np.float32)
        items = [[f"i-{self._calls}-{row}"] for row in range(len(users))]
        scores = {"fraud": np.round(fraud, 5).tolist(), "items": items, "item_scores": [[0.25] for _ in items]}
        norms = replace(ranked.champion, threshold=0.4)
        return replace(ranked, scored=replace(ranked.scored, **scores), fraud=fraud, champion=norms)


@pytest.fixture
def run() -> Iterator[Run]:
    """Everything is an alert, and no two decisions are the same."""
    names = scoring_engine().feature_names
    decider = Decider(rules=RuleSet((), names), feature_names=names)
    store = MemoryStore(GROUPS, SHARED)
    made = Run(scoring_pipeline(store, TickingClock(), ranker=MoodyRanker(), decider=decider), store, NotingRanker())
    yield made
    made.pipeline.model_thread.shutdown()


def batches(run: Run, *batches: Sequence[Record]) -> None:
    for batch in batches:
        asyncio.run(run.batch(batch))


def answers(run: Run) -> dict[str, dict[str, dict[str, Any]]]:
    """Answer id -> topic -> message."""
    by_id: dict[str, dict[str, dict[str, Any]]] = {}
    for topic, message in run.messages():
        by_id.setdefault(message["answer_id"], {})[topic] = message
    return by_id


def content(messages: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The content of answers without the fields of their own record."""
    return {
        topic: {name: value for name, value in message.items() if name not in OWN_FIELDS} for topic, message in messages.items()
    }


def counted(run: Run, answered: str) -> float:
    samples = [s for family in run.pipeline.outputs.metrics.duplicates.collect() for s in family.samples]
    return sum(s.value for s in samples if s.name.endswith("_total") and s.labels["answered"] == answered)


def event_count(run: Run, user: str = "u-1") -> int:
    digest = run.pipeline.identity.digest("user", user)
    [blob] = [blob for (_, kind, key), blob in run.store.state().items() if (kind, key) == ("user", digest)]
    sequence: Any = scoring_engine().describe("user", blob)["sequence"]
    return len(sequence)


class Log:
    """Gives records the next offset of their topic and partition, which is the number of the user."""

    def __init__(self) -> None:
        self._ends: Counter[tuple[str, int]] = Counter()

    def append(self, *events: Event) -> list[Record]:
        records = []
        for event in events:
            place = (topic_of(event), int(event.user.removeprefix("u-")) % GROUPS)
            records.append(record_of(event, place[1], self._ends[place]))
            self._ends[place] += 1
        return records


def id_of(record: Record) -> str:
    return f"{record.topic}-{record.partition}-{record.offset}"


def second(event: Event, offset: int, partition: int = 1) -> Record:
    return record_of(event, partition, offset, timestamp=event.event_time_ms + 9_000)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("event", [ORDER, CLICK], ids=lambda event: type(event).__name__)
def test_it_gets_the_first_answers_and_says_whose_they_are(run: Run, event: Event, together: bool) -> None:
    first, again = record_of(event, 1, 0), second(event, 1)
    batches(run, *([[first, again]] if together else [[first], [again]]))
    by_id, topic = answers(run), first.topic
    messages, repeated = by_id[f"{topic}-1-0"], by_id[f"{topic}-1-1"]
    assert set(messages) == {"intent-labels", "recommendation-candidates", "fraud-alerts"}
    assert content(repeated) == content(messages)
    for message in messages.values():
        assert "duplicate_of" not in message
    for message in repeated.values():
        assert message["duplicate_of"] == f"{topic}-1-0"
        assert message["source"] == {"topic": topic, "partition": 1, "offset": 1}
        assert message["ingest_time_ms"] == again.timestamp
    assert (counted(run, "first"), counted(run, "again")) == (1, 0)
    assert event_count(run) == 1


def test_it_changes_no_state_of_anybody(run: Run) -> None:
    events, log = make_events(60, users=["u-1", "u-2"], devices=["d-1", "d-2"]), Log()
    batches(run, log.append(*events))
    before = run.store.state()
    batches(run, log.append(*[event for event in events if event.user == "u-1"][-20:]))
    assert run.store.state() == before
    assert counted(run, "first") == 20


def test_the_third_copy_names_the_first_too(run: Run) -> None:
    batches(run, [record_of(CLICK, 1, 0)], [second(CLICK, 1)], [second(CLICK, 2), second(CLICK, 3)])
    by_id = answers(run)
    for offset in (1, 2, 3):
        assert content(by_id[f"clicks-1-{offset}"]) == content(by_id["clicks-1-0"])
        assert by_id[f"clicks-1-{offset}"]["intent-labels"]["duplicate_of"] == "clicks-1-0"


@pytest.mark.parametrize("together", [True, False])
def test_what_the_producer_changed_meanwhile_counts_for_nothing(run: Run, together: bool) -> None:
    changed = msgspec.structs.replace(ORDER, amount=1.0)
    first, again = record_of(ORDER, 1, 0), second(changed, 1)
    batches(run, *([[first, again]] if together else [[first], [again]]))
    by_id = answers(run)
    assert by_id["orders-1-1"]["fraud-alerts"]["amount"] == 70.0
    assert by_id["orders-1-1"]["intent-labels"]["event_time_ms"] == BASE_MS
    assert content(by_id["orders-1-1"]) == content(by_id["orders-1-0"])


@pytest.mark.parametrize("size", [1, 3, 80])
def test_a_producer_that_calls_all_its_events_the_same_loses_none_of_them(run: Run, size: int) -> None:
    events = [
        msgspec.structs.replace(ORDER, event_id="1", event_time_ms=BASE_MS + 60_000 * n, amount=10.0 * 10 ** (n % 4))
        for n in range(31)
    ]
    log = Log()
    records = [record for event in events for record in log.append(event)]
    batches(run, *(records[start : start + size] for start in range(0, len(records), size)))
    by_id = answers(run)
    assert not [message for messages in by_id.values() for message in messages.values() if "duplicate_of" in message]
    assert [by_id[id_of(r)]["fraud-alerts"]["amount"] for r in records] == [event.amount for event in events]
    assert event_count(run) == 31
    again = log.append(*events)
    batches(run, again)
    by_id = answers(run)
    for record, repeated in zip(records, again, strict=True):
        assert by_id[id_of(repeated)]["intent-labels"]["duplicate_of"] == id_of(record), "each copy is of its own first"
        assert content(by_id[id_of(repeated)]) == content(by_id[id_of(record)])
    assert event_count(run) == 31


def test_copies_of_events_of_one_id_in_one_batch_are_each_of_their_own_first(run: Run) -> None:
    events = [msgspec.structs.replace(ORDER, event_id="1", event_time_ms=BASE_MS + n) for n in (0, 7)]
    log = Log()
    records = log.append(*events, *events)
    batches(run, records)
    by_id = answers(run)
    duplicates_of = [by_id[id_of(record)]["intent-labels"].get("duplicate_of") for record in records]
    assert duplicates_of == [None, None, id_of(records[0]), id_of(records[1])]


def test_what_is_no_longer_kept_is_decided_anew_and_says_which_commit_counted_it(run: Run) -> None:
    batches(run, [record_of(CLICK, 1, 0)], [record_of(ORDER, 1, 0)])
    for group in run.store._groups:
        group.outbox.clear()
    before = run.store.state()
    batches(run, [second(CLICK, 1)])
    by_id = answers(run)
    again = by_id["clicks-1-1"]
    assert {message["duplicate_of"] for message in again.values()} == {"commit-1-1"}
    assert content(again) != content(by_id["clicks-1-0"])
    assert set(again) == {"intent-labels", "recommendation-candidates", "fraud-alerts"}
    assert run.store.state() == before
    assert (counted(run, "first"), counted(run, "again")) == (0, 1)


def test_a_kept_payload_that_lacks_the_event_counts_as_not_kept(run: Run) -> None:
    batches(run, [record_of(CLICK, 1, 0)], [record_of(ORDER, 1, 0)])
    held = run.store._groups[1].outbox
    held[1] = held[2]
    batches(run, [second(CLICK, 1)])
    assert answers(run)["clicks-1-1"]["intent-labels"]["duplicate_of"] == "commit-1-1"


def test_an_id_is_one_event_only_of_its_user_and_topic(run: Run) -> None:
    order = msgspec.structs.replace(ORDER, event_id=CLICK.event_id)
    other = msgspec.structs.replace(CLICK, user="u-4")
    batches(run, [record_of(CLICK, 1, 0), record_of(order, 1, 0)], [record_of(other, 1, 1)])
    assert not [message for messages in answers(run).values() for message in messages.values() if "duplicate_of" in message]
    assert (event_count(run), event_count(run, "u-4")) == (2, 1)


def test_it_is_recognised_among_the_users_last_32_events(run: Run) -> None:
    later = [
        msgspec.structs.replace(CLICK, event_id=f"k-later-{number}", event_time_ms=BASE_MS + 2_000 + number)
        for number in range(32)
    ]
    log = Log()
    first, rest, within, last, beyond = (log.append(*events) for events in ([CLICK], later[:31], [CLICK], later[31:], [CLICK]))
    batches(run, first, rest, within, last, beyond)
    by_id = answers(run)
    assert by_id[id_of(within[0])]["intent-labels"]["duplicate_of"] == id_of(first[0])
    assert "duplicate_of" not in by_id[id_of(beyond[0])]["intent-labels"], "out of the span it is a new event"


def test_lateness_is_judged_first_and_a_dead_letter_stays_one(run: Run) -> None:
    newer = msgspec.structs.replace(CLICK, event_id="k-2", event_time_ms=CLICK.event_time_ms + 86_400_001)
    broken = Record("clicks", 1, 2, BASE_MS, b"u-1", b"{broken")
    batches(run, [record_of(CLICK, 1, 0)], [record_of(newer, 1, 1)], [broken, replace(broken, offset=3), second(CLICK, 4)])
    by_id = answers(run)
    assert set(by_id["clicks-1-4"]) == {"late-events"}
    assert [set(by_id[f"clicks-1-{offset}"]) for offset in (2, 3)] == [{"dead-letters"}] * 2
    assert (counted(run, "first"), counted(run, "again")) == (0, 0)


def test_a_batch_of_many_users_asks_each_commit_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    events, log = make_events(60, users=["u-0", "u-1", "u-2"], devices=["d"]), Log()
    records = log.append(*events)
    batches(run, records[:30], records[30:])
    asked: list[tuple[int, list[int]]] = []
    real = run.store.answers

    async def noted(group: int, commits: Sequence[int]) -> dict[int, bytes]:
        asked.append((group, list(commits)))
        return await real(group, commits)

    monkeypatch.setattr(run.store, "answers", noted)
    again = log.append(*events)
    batches(run, again)
    assert sorted(asked) == [(0, [1, 2]), (1, [1, 2]), (2, [1, 2])]
    by_id = answers(run)
    for record, repeated in zip(records, again, strict=True):
        assert content(by_id[id_of(repeated)]) == content(by_id[id_of(record)])
