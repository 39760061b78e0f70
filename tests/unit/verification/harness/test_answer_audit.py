"""The books find each kind of wrong answer, and take an identical repeat for what it is."""

from __future__ import annotations

import json

from verification.harness.answer_audit import ALERTS, CANDIDATES, DEAD, LABELS, LATE, AnswerAudit, Place

PLACES: list[Place] = [("clicks", 0, 0), ("clicks", 0, 1), ("orders", 3, 0)]
ALERTED: Place = ("orders", 3, 0)


def answer(place: Place, *, label: bool = False, alert: bool = False, prefix: str = "", **extra: object) -> bytes:
    topic, partition, offset = place
    body: dict[str, object] = {
        "answer_id": f"{topic}-{partition}-{offset}",
        "source": {"topic": prefix + topic, "partition": partition, "offset": offset},
        **extra,
    }
    if label:
        body["fraud_alert"] = alert
    return json.dumps(body).encode()


def right_books(prefix: str = "") -> AnswerAudit:
    books = AnswerAudit(prefix)
    for place in PLACES:
        books.enter(LABELS, answer(place, label=True, alert=place == ALERTED, prefix=prefix))
        books.enter(CANDIDATES, answer(place, prefix=prefix))
    books.enter(ALERTS, answer(ALERTED, prefix=prefix))
    return books


def test_complete_books_have_no_problem() -> None:
    assert not right_books().close(PLACES).counts


def test_source_topics_may_be_named_with_the_prefix() -> None:
    assert not right_books("run.").close(PLACES).counts


def test_an_event_without_answers_misses_both() -> None:
    problems = right_books().close([*PLACES, ("clicks", 1, 0)])
    assert problems.counts == {"missing": 2}
    assert "('clicks', 1, 0)" in problems.examples["missing"][0]


def test_an_alert_that_a_label_announces_must_be_there() -> None:
    books = AnswerAudit()
    for place in PLACES:
        books.enter(LABELS, answer(place, label=True, alert=place == ALERTED))
        books.enter(CANDIDATES, answer(place))
    assert books.close(PLACES).counts == {"missing": 1}


def test_an_alert_that_no_label_announces_is_needless() -> None:
    books = right_books()
    books.enter(ALERTS, answer(PLACES[0]))
    assert books.close(PLACES).counts == {"needless": 1}


def test_an_identical_repeat_is_counted_and_no_problem() -> None:
    books = right_books()
    books.enter(CANDIDATES, answer(PLACES[1]))
    books.enter(CANDIDATES, answer(PLACES[1]))
    assert not books.close(PLACES).counts
    assert books.topics[CANDIDATES].repeated == {PLACES[1]}


def test_a_repeat_with_other_bytes_differs_even_if_it_says_the_same() -> None:
    books = right_books()
    books.enter(LABELS, answer(PLACES[1], label=True) + b" ")
    assert books.close(PLACES).counts == {"differing": 1}


def test_an_answer_to_no_source_record_is_needless() -> None:
    assert right_books().close(PLACES[:2]).counts["needless"] == 2 + 0


def test_a_refused_record_has_no_answer() -> None:
    books = right_books()
    books.enter(DEAD, answer(("clicks", 5, 5)))
    books.enter(LATE, answer(("clicks", 5, 6)))
    assert not books.close([*PLACES, ("clicks", 5, 5), ("clicks", 5, 6)]).counts
    books = right_books()
    books.enter(LATE, answer(PLACES[0]))
    assert books.close(PLACES).counts == {"needless": 2}


def test_a_record_cannot_be_dead_and_late() -> None:
    books = right_books()
    for topic in (DEAD, LATE):
        books.enter(topic, answer(("clicks", 5, 5)))
    assert books.close([*PLACES, ("clicks", 5, 5)]).counts == {"needless": 1}


def test_two_places_must_not_share_an_answer_id() -> None:
    books = right_books()
    place = ("searches", 0, 0)
    books.enter(LABELS, answer(place, label=True, answer_id="clicks-0-0"))
    books.enter(CANDIDATES, answer(place, answer_id="clicks-0-0"))
    assert books.close([*PLACES, place]).counts == {"id": 1}


def test_a_place_has_one_answer_id_in_all_topics() -> None:
    books = right_books()
    place = ("searches", 0, 0)
    books.enter(LABELS, answer(place, label=True, answer_id="x"))
    books.enter(CANDIDATES, answer(place, answer_id="y"))
    assert books.close([*PLACES, place]).counts == {"id": 1}


def test_bytes_that_are_no_answer_are_unreadable() -> None:
    books = right_books()
    books.enter(LABELS, b"{}")
    books.enter(LABELS, b"\xff")
    books.enter(LABELS, answer(("clicks", 0, 0)))  # a label that does not say whether there is an alert
    assert books.close(PLACES).counts["unreadable"] == 3
