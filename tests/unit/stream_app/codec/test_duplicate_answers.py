"""A duplicate gets the values of its first answers, under its own offset."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stream_app.codec.duplicate_answers import commit_name, encode_duplicate_answers, find_first_answers
from stream_app.codec.outbox import OutboxBatch
from stream_app.docgen.examples import EXAMPLES
from stream_app.events import ANSWER_TOPICS, Event, JournalLine, Order, Source

LINE = JournalLine(group=3, commit=0, epoch="1:w", ranges={}, reads={}, model_version="m", features_version="f")
KEY = b"u-1042"
_ORDER = EXAMPLES["orders"]
assert isinstance(_ORDER, Order)
EVENT: Order = _ORDER


def outbox(*changes: dict[str, Any], topics: tuple[str, ...] = ANSWER_TOPICS) -> OutboxBatch:
    """The examples' answers, once for each of `changes` made to them."""
    made = OutboxBatch(3, {}, LINE)
    for change in changes:
        for topic in topics:
            answer = msgspec.structs.replace(EXAMPLES[topic], **change)
            made.add(topic, getattr(answer, "user").encode(), msgspec.json.encode(answer))  # noqa: B009 - a struct of any type
    return made


def example(topic: str) -> dict[str, Any]:
    """The answer as subscribers see it."""
    answer: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(EXAMPLES[topic]))
    return answer


def test_all_answers_of_the_event_are_found_among_those_of_others() -> None:
    elsewhere = {"source": Source("clicks", 3, 9)}
    held = outbox({"event_id": "o-30"}, {"user": "u-7"}, elsewhere, {"event_time_ms": 5}, {}, {"event_id": "o-32"})
    answers = find_first_answers(held, KEY, "orders", EVENT)
    assert answers == {topic: example(topic) for topic in ANSWER_TOPICS}


@pytest.mark.parametrize(
    ("key", "topic", "event"),
    [
        (b"u-7", "orders", EVENT),
        (KEY, "clicks", EVENT),
        (KEY, "orders", msgspec.structs.replace(EVENT, event_id="o-99")),
        (KEY, "orders", msgspec.structs.replace(EVENT, event_time_ms=EVENT.event_time_ms + 1)),
        (None, "orders", EVENT),
    ],
)
def test_nothing_is_found_of_an_event_that_is_not_there(key: bytes | None, topic: str, event: Event) -> None:
    assert find_first_answers(outbox({}), key, topic, event) == {}


def test_of_two_events_of_one_id_each_has_its_own_answers() -> None:
    held = outbox({"event_time_ms": 5, "answer_id": "orders-3-1"}, {})
    assert find_first_answers(held, KEY, "orders", EVENT)["fraud-alerts"]["answer_id"] == "orders-3-1205"
    earlier = msgspec.structs.replace(EVENT, event_time_ms=5)
    assert find_first_answers(held, KEY, "orders", earlier)["fraud-alerts"]["answer_id"] == "orders-3-1"


def test_an_answer_that_is_itself_a_repetition_is_passed_over() -> None:
    repetition = {"duplicate_of": "orders-3-1", "answer_id": "orders-3-2"}
    assert find_first_answers(outbox(repetition), KEY, "orders", EVENT) == {}
    assert find_first_answers(outbox(repetition, {}), KEY, "orders", EVENT)["intent-labels"]["answer_id"] == "orders-3-1205"


def test_an_event_without_an_alert_has_two_answers() -> None:
    held = outbox({}, topics=("intent-labels", "recommendation-candidates"))
    assert list(find_first_answers(held, KEY, "orders", EVENT)) == ["intent-labels", "recommendation-candidates"]


def test_what_another_release_has_answered_is_said_again_as_it_was() -> None:
    value = msgspec.json.encode(example("intent-labels") | {"intent": "dream", "of_tomorrow": [1.5]})
    held = OutboxBatch(3, {}, LINE)
    held.add("intent-labels", KEY, value.replace(b'"features_version":"6d5c4b3a2f10",', b""))
    again = encode_duplicate_answers(find_first_answers(held, KEY, "orders", EVENT), Source("orders", 3, 1300), 17)
    answer = msgspec.json.decode(again["intent-labels"])
    assert (answer["intent"], answer["of_tomorrow"], "features_version" in answer) == ("dream", [1.5], False)


def test_only_where_it_stands_and_whose_it_is_changes() -> None:
    again = encode_duplicate_answers(find_first_answers(outbox({}), KEY, "orders", EVENT), Source("orders", 3, 1300), 17)
    assert set(again) == set(ANSWER_TOPICS)
    for topic, value in again.items():
        expected = example(topic) | {"answer_id": "orders-3-1300", "source": {"topic": "orders", "partition": 3, "offset": 1300}}
        expected |= {"ingest_time_ms": 17, "duplicate_of": "orders-3-1205"}
        assert msgspec.json.decode(value) == expected


@pytest.mark.parametrize("topic", ANSWER_TOPICS)
def test_an_answer_to_a_new_event_does_not_grow(topic: str) -> None:
    assert "duplicate_of" not in example(topic)


def test_a_commit_is_named_as_no_answer_is() -> None:
    assert commit_name(3, 4711) == "commit-3-4711"
