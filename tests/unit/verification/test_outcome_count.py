"""The counter of outcomes finds each kind of fault, and takes what docs/topics.md allows for right."""

from __future__ import annotations

import json
from typing import Any

import pytest

from verification.kill_count import is_proof
from verification.outcome_count import ALERTS, CANDIDATES, DEAD, FAULTS, LABELS, LATE, Place, TopicRecord, count_outcomes

EVENT: Place = ("clicks", 1, 0)
FRAUD: Place = ("orders", 2, 7)
TOO_LATE: Place = ("searches", 0, 3)
BROKEN: Place = ("clicks", 1, 1)
PLACES = [EVENT, FRAUD, TOO_LATE, BROKEN]


def record(topic: str, place: Place, *, key: bytes = b"u-1", **changes: Any) -> TopicRecord:
    source = dict(zip(("topic", "partition", "offset"), place, strict=True))
    answer = {"answer_id": "-".join(map(str, place)), "source": source, **changes}
    return TopicRecord(topic, place[1], 0, key, json.dumps(answer).encode())


def label(place: Place, *, alert: bool = False, **changes: Any) -> TopicRecord:
    return record(LABELS, place, fraud_alert=alert, **changes)


def right() -> list[TopicRecord]:
    return [
        *(label(EVENT), record(CANDIDATES, EVENT)),
        *(record(ALERTS, FRAUD), label(FRAUD, alert=True), record(CANDIDATES, FRAUD)),
        *(record(LATE, TOO_LATE), record(DEAD, BROKEN)),
    ]


def faults(records: list[TopicRecord], places: list[Place] = PLACES) -> dict[str, int]:
    counts = count_outcomes(places, records)
    found = {name: counts[name] for name in FAULTS if counts[name]}
    assert counts["ok"] == (not found)
    assert counts["examples"].keys() == found.keys()
    return found


def test_each_offset_with_one_outcome_is_right() -> None:
    counts = count_outcomes(PLACES, right())
    assert (counts["ok"], counts["events"]) == (True, 4)
    assert [counts[name] for name in ("answered", "alerts", "late_events", "dead_letters", "repeats")] == [2, 1, 1, 1, 0]


def test_identical_repeats_in_any_order_are_right() -> None:
    counts = count_outcomes(PLACES, [*right(), *reversed(right())])
    assert (counts["ok"], counts["repeats"]) == (True, 7)


def test_a_prefix_in_the_source_is_right() -> None:
    named = [record(topic, ("run.clicks", 0, 0), fraud_alert=False) for topic in (LABELS, CANDIDATES)]
    assert count_outcomes([("clicks", 0, 0)], named, "run.")["ok"]


@pytest.mark.parametrize("place", PLACES)
def test_an_offset_without_outcome_is_missing(place: Place) -> None:
    left = [each for each in right() if json.loads(each.value or b"")["source"]["offset"] != place[2]]
    assert faults(left) == {"missing": 1}


@pytest.mark.parametrize("number", range(5))
def test_an_answer_without_one_of_its_parts_is_missing(number: int) -> None:
    incomplete = right()
    taken = incomplete.pop(number)
    assert faults(incomplete)["missing"] == 1, f"without {taken}"


@pytest.mark.parametrize("topic", [LATE, DEAD])
@pytest.mark.parametrize("place", [EVENT, FRAUD])
def test_an_answer_and_a_refusal_are_two_outcomes(topic: str, place: Place) -> None:
    assert faults([*right(), record(topic, place)]) == {"doubled_outcomes": 1}


def test_a_late_event_and_a_dead_letter_are_two_outcomes() -> None:
    assert faults([*right(), record(LATE, BROKEN)]) == {"doubled_outcomes": 1}


def test_two_ids_of_one_offset_are_two_outcomes() -> None:
    assert faults([*right(), label(EVENT, answer_id="another")]) == {"doubled_outcomes": 1}


@pytest.mark.parametrize("repeat", [label(EVENT, user="u-2"), label(EVENT, key=b"u-2"), label(EVENT, alert=True)])
def test_a_repeat_with_other_bytes_differs(repeat: TopicRecord) -> None:
    assert faults([*right(), repeat]) == {"differing_repeats": 1}


def test_an_answer_to_nothing_is_needless() -> None:
    assert faults([*right(), record(DEAD, ("clicks", 5, 99))]) == {"needless": 1}


def test_an_alert_that_its_label_does_not_announce_is_needless() -> None:
    assert faults([*right(), record(ALERTS, EVENT)]) == {"needless": 1}


def test_an_answer_in_another_partition_is_misplaced() -> None:
    moved = right()
    moved[0] = moved[0]._replace(partition=0)
    assert faults(moved) == {"misplaced": 1}


@pytest.mark.parametrize("value", [b"{broken", b"{}", b'{"answer_id": "a", "source": "clicks-1-0"}', b"", None])
def test_a_record_that_is_no_answer_is_unreadable(value: bytes | None) -> None:
    assert faults([*right(), TopicRecord(LABELS, 0, 0, b"u-1", value)]) == {"unreadable": 1}


def test_nothing_at_all_proves_nothing() -> None:
    assert not count_outcomes([], [])["ok"]


@pytest.mark.parametrize(
    "lack", [{"kills": 19}, {"sent": 5}, {"late_events": 0}, {"dead_letters": 0}, {"missing": 1, "ok": False}]
)
def test_a_run_proves_something_with_all_kills_and_every_outcome(lack: dict[str, Any]) -> None:
    figures = {**count_outcomes(PLACES, right()), "kills": 20, "sent": 4}
    assert is_proof(figures, 20)
    assert not is_proof({**figures, **lack}, 20)
