"""Invalid bytes of every kind are refused with a sentence that names the fix."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from stream_app.codec.decode import EVENT_TYPES, Decoder, decode_label
from stream_app.docgen.examples import EXAMPLES
from stream_app.errors import InvalidEventError
from stream_app.events import SOURCE_TOPICS, Click, Order, Search

NOW_MS = 1_748_736_100_000
DAY_MS = 86_400_000
DECODER = Decoder(future_skew_ms=DAY_MS)


def example(topic: str, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(msgspec.json.encode(EXAMPLES[topic]))
    made.update(changes)
    return {name: value for name, value in made.items() if value is not ...}


def refused(topic: str, value: bytes | None, key: bytes | None = b"u-1042", timestamp_ms: int = NOW_MS) -> str:
    with pytest.raises(InvalidEventError) as caught:
        DECODER.decode(topic, key, value, timestamp_ms)
    reason = str(caught.value)
    assert len(reason) < 600, "a reason is a sentence, not a copy of the record"
    assert reason.isprintable()
    return reason


def refused_with(topic: str, **changes: Any) -> str:
    return refused(topic, json.dumps(example(topic, **changes)).encode())


@pytest.mark.parametrize("topic", SOURCE_TOPICS)
def test_a_valid_event_is_decoded_to_its_type(topic: str) -> None:
    event = DECODER.decode(topic, b"u-1042", json.dumps(example(topic)).encode(), NOW_MS)
    assert type(event) is EVENT_TYPES[topic]
    assert event == EXAMPLES[topic]


def test_fields_that_we_do_not_know_are_ignored() -> None:
    value = json.dumps(example("clicks", from_the_future={"deep": [1, 2]})).encode()
    assert DECODER.decode("clicks", b"u-1042", value, NOW_MS) == EXAMPLES["clicks"]


def test_what_may_be_left_out_has_a_default() -> None:
    value = b'{"event_id":"e","user":"u","event_time_ms":5,"action":"view","item":"i"}'
    assert DECODER.decode("clicks", b"u", value, NOW_MS) == Click(
        event_id="e", user="u", event_time_ms=5, action="view", item="i"
    )


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "no value"),
        (b"", "no value"),
        (b"hello", "not JSON"),
        (b"{", "not JSON"),
        (b'{"event_id": "e",}', "not JSON"),
        (b"\x00\x01\x02\xff\xfe", "not JSON"),
        (b"\x00\x00\x00\x00\x07{}", "schema registry"),
        (b"\x1f\x8b\x08{}", "compression.type"),
        ("{}".encode("utf-16"), "it is UTF-16"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"user": "\xff\xfe"}', "not JSON"),
        (b'{"user": "u\x00"}', "not JSON"),
        (b"[" * 100_000, "got `array`"),
        (b'{"x":' + b"[" * 500_000 + b"]" * 500_000 + b"}", "nested too deeply"),
        (b"null", "Expected `object`, got `null`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"17", "Expected `object`, got `int`"),
        (b'"text"', "Expected `object`, got `str`"),
        (b"{}", "missing required field"),
    ],
)
@pytest.mark.parametrize("topic", SOURCE_TOPICS)
def test_bytes_that_are_no_json_object(topic: str, value: bytes | None, says: str) -> None:
    assert says in refused(topic, value)


def test_a_giant_is_refused_by_its_size() -> None:
    value = json.dumps(example("clicks", from_the_future="x" * 1_100_000)).encode()
    assert f"{len(value)} bytes" in refused("clicks", value)


def test_two_events_in_one_record_are_none() -> None:
    assert "not JSON" in refused("clicks", json.dumps(example("clicks")).encode() * 2)


@pytest.mark.parametrize(
    ("topic", "name"),
    [(topic, name) for topic in SOURCE_TOPICS for name in ("event_id", "user", "event_time_ms")]
    + [
        ("searches", "query"),
        ("clicks", "action"),
        ("clicks", "item"),
        ("orders", "lines"),
        ("orders", "amount"),
        ("orders", "currency"),
    ],
)
def test_a_missing_key_is_named(topic: str, name: str) -> None:
    assert name in refused_with(topic, **{name: ...})


@pytest.mark.parametrize(
    ("topic", "name", "value"),
    [
        ("clicks", "user", 17),
        ("clicks", "user", None),
        ("clicks", "event_time_ms", "2025-06-01"),
        ("clicks", "event_time_ms", 1.5),
        ("clicks", "event_time_ms", True),
        ("clicks", "price", "9.99"),
        ("clicks", "price", None),
        ("clicks", "position", [1]),
        ("clicks", "action", "buy"),
        ("clicks", "scene", "kitchen"),
        ("clicks", "platform", 3),
        ("searches", "query", {"text": "shoes"}),
        ("searches", "items_shown", "i-1"),
        ("searches", "items_shown", [1, 2]),
        ("orders", "lines", {}),
        ("orders", "amount", [9]),
    ],
)
def test_a_wrong_type_is_named_with_its_field(topic: str, name: str, value: Any) -> None:
    assert f"$.{name}" in refused_with(topic, **{name: value})


@pytest.mark.parametrize(
    ("topic", "name", "value"),
    [
        ("clicks", "event_time_ms", -1),
        ("clicks", "event_time_ms", 1_748_736_000_000_000),  # microseconds
        ("clicks", "event_time_ms", 10**30),
        ("clicks", "price", -0.01),
        ("clicks", "price", 1e300),
        ("clicks", "position", 10**18),
        ("clicks", "dwell_ms", -5),
        ("searches", "query", "x" * 1_000_000),
        ("searches", "items_shown", ["i"] * 10_000),
        ("orders", "amount", -1.0),
        ("orders", "amount", 1e10),
        ("orders", "lines", []),
        ("orders", "currency", "euro"),
        ("orders", "billing_country", "Germany"),
        ("clicks", "user", ""),
        ("clicks", "user", "u" * 129),
        ("clicks", "item", ""),
        ("clicks", "ip", "not an address"),
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_field(topic: str, name: str, value: Any) -> None:
    assert f"$.{name}" in refused_with(topic, **{name: value})


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"0x10", b"01", b".5", b"1_000", b"--1"])
def test_an_amount_that_is_no_number(number: bytes) -> None:
    value = json.dumps(example("orders", amount=123456)).encode().replace(b"123456", number)
    assert "amount" in (reason := refused("orders", value)) or "JSON" in reason


def test_a_line_inside_an_order_is_checked_too() -> None:
    for line, field in (
        ({"item": "i", "quantity": 0}, "quantity"),
        ({"item": "i", "unit_price": -1}, "unit_price"),
        ({}, "item"),
    ):
        assert field in refused_with("orders", lines=[{"item": "ok"}, line])


ODD = [
    "a b", " a", "a ", "a\n", "\n", "a\tb", "a\0b", "a\x7fb", "a\u2028b", "ä", "用户", "😀", "a\u200bb", "a\u0301",
    "a'b", 'a"b', "a\\b",
    "a{b}", "a,b", "a;b", "a<b>", "a$b", "a%b", "a&b", "a*b", "a?b", "a#b", "a!b", "a^b", "a`b", "a(b)", "a[b]",
]  # fmt: skip


@pytest.mark.parametrize("identifier", ODD, ids=[ascii(odd) for odd in ODD])
@pytest.mark.parametrize("name", ["user", "event_id", "item", "device", "session", "category"])
def test_identifiers_with_odd_characters(name: str, identifier: str) -> None:
    value = json.dumps(example("clicks", **{name: identifier})).encode()
    key = identifier.encode() if name == "user" else b"u-1042"
    reason = refused("clicks", value, key)
    assert f"$.{name}" in reason


def test_a_lone_surrogate_is_no_text() -> None:
    refused("clicks", json.dumps(example("clicks", user="\ud800")).encode())


@pytest.mark.parametrize(("topic", "of"), [("searches", "clicks"), ("clicks", "orders"), ("orders", "searches")])
def test_the_event_of_another_topic_is_refused(topic: str, of: str) -> None:
    assert "missing required field" in refused(topic, json.dumps(example(of)).encode())


@pytest.mark.parametrize("key", [None, b"", b"u-1", b"u-1042 ", b"\xff\xfe", b"k" * 100_000])
def test_the_key_must_be_the_user(key: bytes | None) -> None:
    reason = refused("clicks", json.dumps(example("clicks")).encode(), key)
    assert "key" in reason
    assert "'u-1042'" in reason


def test_an_event_from_the_far_future_is_refused_and_one_of_tomorrow_is_not() -> None:
    at_ms = NOW_MS - DAY_MS
    near = json.dumps(example("clicks", event_time_ms=NOW_MS)).encode()
    far = json.dumps(example("clicks", event_time_ms=NOW_MS + 1)).encode()
    assert DECODER.decode("clicks", b"u-1042", near, at_ms).event_time_ms == NOW_MS
    reason = refused("clicks", far, timestamp_ms=at_ms)
    assert str(NOW_MS + 1) in reason
    assert str(DAY_MS) in reason


def test_a_record_without_a_timestamp_is_not_judged_by_it() -> None:
    far = json.dumps(example("clicks", event_time_ms=NOW_MS + 400 * DAY_MS)).encode()
    assert DECODER.decode("clicks", b"u-1042", far, -1).event_time_ms == NOW_MS + 400 * DAY_MS


def test_events_are_checked_by_their_types_and_by_nothing_else() -> None:
    assert {"searches": Search, "clicks": Click, "orders": Order} == EVENT_TYPES


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "Input data was truncated"),
        (b"", "Input data was truncated"),
        (b"[1]", "Expected `object`"),
        (b'{"event_id":"e"}', "missing required field"),
        (b'{"event_id":"\xff"}', "utf-8"),
        (b'{"more":' + b"[" * 1_000_000, "nested too deeply"),
    ],
)
def test_what_is_no_label_is_refused_with_the_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(InvalidEventError, match=reason):
        decode_label(value)


@pytest.mark.parametrize(
    ("value", "key", "kind"),
    [
        (None, b"u-1042", "no_value"),
        (b" " * 1_100_000, b"u-1042", "too_large"),
        (b"{", b"u-1042", "not_json"),
        (b"[" * 100, b"u-1042", "wrong_type"),
        (b"{}", b"u-1042", "missing_field"),
        (json.dumps(example("clicks", price="1")).encode(), b"u-1042", "wrong_type"),
        (json.dumps(example("clicks", price=-1.0)).encode(), b"u-1042", "out_of_bounds"),
        (json.dumps(example("clicks", action="look")).encode(), b"u-1042", "out_of_bounds"),
        (json.dumps(example("clicks", item="")).encode(), b"u-1042", "out_of_bounds"),
        (json.dumps(example("clicks")).encode(), b"u-1", "key"),
        (json.dumps(example("clicks", event_time_ms=4_000_000_000_000)).encode(), b"u-1042", "future"),
    ],
)
def test_a_refusal_has_a_kind_for_a_metric(value: bytes | None, key: bytes, kind: str) -> None:
    with pytest.raises(InvalidEventError) as refusal:
        Decoder(future_skew_ms=0).decode("clicks", key, value, 1_800_000_000_000)
    assert refusal.value.kind == kind
