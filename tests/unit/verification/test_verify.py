"""Source records are held against the raw files, and the store's position against the topics."""

from __future__ import annotations

from collections import Counter

from stream_app.events import Click, Event, Order, OrderLine
from verification.harness.answer_audit import AnswerAudit, AuditProblems
from verification.state_comparison import StateComparison
from verification.verify import AuditVerdict, SourceRecords, import_faults_of

VIEWS = [Click(event_id=f"e{n}", user="a", event_time_ms=n, action="view", item="i") for n in (1, 2)]
RAW: list[Event] = [
    *VIEWS,
    Order(event_id="e3", user="b", event_time_ms=3, lines=[OrderLine(item="i")], amount=1.0, currency="EUR"),
]


def records(*counts: tuple[str, str, int]) -> SourceRecords:
    return SourceRecords([], {}, Counter({(topic, user): count for topic, user, count in counts}), [])


def test_an_import_of_each_row_once_has_no_fault() -> None:
    assert import_faults_of(records(("clicks", "a", 2), ("orders", "b", 1)), RAW) == []


def test_a_row_that_was_not_imported_is_a_fault() -> None:
    assert len(import_faults_of(records(("clicks", "a", 1), ("orders", "b", 1)), RAW)) == 1


def test_a_row_that_was_imported_twice_is_a_fault() -> None:
    assert len(import_faults_of(records(("clicks", "a", 2), ("orders", "b", 2)), RAW)) == 1


def test_a_record_of_a_user_that_no_row_has_is_a_fault() -> None:
    assert len(import_faults_of(records(("clicks", "a", 2), ("orders", "b", 1), ("orders", "c", 1)), RAW)) == 1


def verdict() -> AuditVerdict:
    return AuditVerdict(3, AnswerAudit(), AuditProblems(), StateComparison(keys=1), [], [], [], 1)


def test_a_verdict_is_good_only_without_any_fault() -> None:
    assert verdict().good
    damaged = [verdict() for _ in range(5)]
    damaged[0].problems.add("missing", "intent-labels: none for x")
    damaged[1].state.differences = 1
    damaged[2].import_faults.append("orders has 2 records of b, the file has 1 rows")
    damaged[3].store_faults.append("the front is behind")
    damaged[4].journal_faults.append("a hole")
    assert [v.good for v in damaged] == [False] * 5
    assert [len(v.examples()) for v in damaged] == [1, 0, 1, 1, 1]


def test_the_figures_have_every_key_that_the_documents_name() -> None:
    figures = verdict().figures()
    assert {
        "events",
        "answers",
        "missing",
        "duplicates",
        "duplicates_differing",
        "state_keys_compared",
        "state_differences",
    } <= figures.keys()
    assert set(figures["answers"]) == {"fraud-alerts", "intent-labels", "recommendation-candidates"}
