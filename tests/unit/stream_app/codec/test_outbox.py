"""Answers are published from the outbox's bytes, so decoding must return exactly the encoded messages."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stream_app.codec.outbox import Messages, OutboxBatch, decode_outbox, encode_outbox, outbox_without
from stream_app.docgen.examples import EXAMPLES
from stream_app.events import Answer, JournalLine

LINE = JournalLine(
    group=3,
    commit=0,
    epoch="7:host-1",
    ranges={"clicks": (5, 9), "orders": (2**40, 2**40 + 1)},
    reads={"0": 4, "3": 2**33},
    model_version="m",
    features_version="f",
)
topics = st.dictionaries(
    st.sampled_from(["intent-labels", "fraud-alerts", "dead-letters"]),
    st.lists(st.tuples(st.none() | st.binary(max_size=40), st.binary(max_size=400)), min_size=1, max_size=5),
)


@given(topics)
def test_every_message_comes_back_in_its_place(expected: dict[str, list[tuple[bytes | None, bytes]]]) -> None:
    batch = OutboxBatch(3, {}, LINE)
    for topic, messages in expected.items():
        for key, value in messages:
            batch.add(topic, key, value)
    payload = encode_outbox(batch)
    decoded = decode_outbox(payload)
    assert {topic: list(zip(m.keys, m.values, strict=True)) for topic, m in decoded.topics.items()} == expected
    assert (decoded.group, decoded.journal) == (3, LINE)
    assert encode_outbox(decoded) == payload


def test_the_journal_line_gets_its_commit_number_when_it_is_published() -> None:
    batch = OutboxBatch(3, {"intent-labels": Messages([b"u"], [b"{}"])}, LINE)
    first, again = (decode_outbox(encode_outbox(batch)).with_journal(41) for _ in range(2))
    assert first == again
    assert first["intent-labels"] == Messages([b"u"], [b"{}"])
    [key], [value] = first["journal"].keys, first["journal"].values
    assert key == b"3"
    assert msgspec.json.decode(value, type=JournalLine) == msgspec.structs.replace(LINE, commit=41)


def test_a_batch_of_no_answers_still_has_its_journal_line() -> None:
    assert list(decode_outbox(encode_outbox(OutboxBatch(0, {}, LINE))).with_journal(1)) == ["journal"]


ANSWERED = ("intent-labels", "recommendation-candidates", "fraud-alerts", "dead-letters", "late-events")
NOW_MS = 1_748_736_000_000 + 3_600_000  # after all examples


def test_one_user_can_be_taken_out_of_what_a_commit_said() -> None:
    batch = OutboxBatch(3, {}, LINE)
    for topic in ANSWERED:
        batch.add(topic, b"u-1042", msgspec.json.encode(EXAMPLES[topic]))
        batch.add(topic, b"u-7", msgspec.json.encode(EXAMPLES[topic]))
    rest = outbox_without(encode_outbox(batch), b"u-1042", NOW_MS)
    assert rest
    assert {topic: messages.keys for topic, messages in decode_outbox(rest).topics.items()} == {
        topic: [b"u-7"] for topic in ANSWERED
    }
    assert decode_outbox(rest).journal == LINE
    assert outbox_without(rest, b"u-1042", NOW_MS) is None


def test_a_commit_that_spoke_of_one_user_only_is_empty_without_them() -> None:
    batch = OutboxBatch(3, {}, LINE)
    for topic in ANSWERED:
        batch.add(topic, b"u-1042", msgspec.json.encode(EXAMPLES[topic]))
    assert outbox_without(encode_outbox(batch), b"u-1042", NOW_MS) == b""


def test_what_is_said_of_later_events_stays() -> None:
    label = EXAMPLES["intent-labels"]
    assert isinstance(label, Answer)
    batch = OutboxBatch(3, {}, LINE)
    for topic in ANSWERED:
        batch.add(topic, b"u-1042", msgspec.json.encode(EXAMPLES[topic]))
    rest = outbox_without(encode_outbox(batch), b"u-1042", label.event_time_ms)
    assert rest
    assert set(decode_outbox(rest).topics) == {"intent-labels", "recommendation-candidates", "fraud-alerts"}, (
        "the others are older"
    )
    assert outbox_without(encode_outbox(batch), b"u-1042", 0) is None
