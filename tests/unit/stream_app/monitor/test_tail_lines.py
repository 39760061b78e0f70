from __future__ import annotations

import json

import msgspec
import pytest

from stream_app.docgen.examples import EXAMPLES, example
from stream_app.events import DeadLetter, Source
from stream_app.monitor.tail import TailedRecord, json_line, pretty_line


def record(topic: str, value: bytes | None) -> TailedRecord:
    return TailedRecord(topic, 3, 7, 1_748_736_000_123, b"u-1042", value)


def example_record(topic: str) -> TailedRecord:
    return record(topic, msgspec.json.encode(EXAMPLES[topic]))


@pytest.mark.parametrize("topic", EXAMPLES)
def test_a_value_is_printed_on_one_line_as_it_is(topic: str) -> None:
    line = json_line(example_record(topic))
    assert json.loads(line) == example(topic)
    assert "\n" not in line


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("fraud-alerts", ["00:00:00.123", "u-1042", "ALERT 0.93", "59.90 EUR", "device_orders_1d 14 (usual 0)", "orders-3-1205"]),
        ("intent-labels", ["u-1042", "buy", "0.81", "next leave", "click 0.07", "fraud 0.93"]),
        ("recommendation-candidates", ["u-1042", "i-12 0.44", "i-90 0.31"]),
        ("clicks", ['"action": "cart"', '"item": "i-7"']),
    ],
)
def test_an_answer_is_told_in_one_line(topic: str, said: list[str]) -> None:
    line = pretty_line(example_record(topic)).plain
    assert "\n" not in line
    for words in said:
        assert words in line


@pytest.mark.parametrize("value", [b"\x1b[31m{oops", b"\xff\xfe", b"", None, '{"query": "\u009b31m \x1b"}'.encode()])
def test_no_record_can_send_control_characters_to_the_terminal(value: bytes | None) -> None:
    for line in (json_line(record("searches", value)), pretty_line(record("searches", value)).plain):
        assert line.isprintable()


def test_json_that_is_no_answer_is_shown_as_it_is() -> None:
    line = pretty_line(record("fraud-alerts", b'{"user": "u-1", "probability": 0.5}')).plain
    assert line.endswith('{"user": "u-1", "probability": 0.5}')
    assert pretty_line(record("intent-labels", b"[1]")).plain.endswith("[1]")


def test_bytes_that_are_no_json_can_be_had_back() -> None:
    assert json.loads(json_line(record("clicks", b"{oops"))) == {"not_json": "e29vcHM="}


def test_a_dead_letter_is_one_short_line_with_reason_place_and_the_bytes_beginning() -> None:
    letter = DeadLetter(
        answer_id="clicks-3-89", reason="not JSON: it ends", place="codec.decode", source=Source("clicks", 3, 89),
        ingest_time_ms=1,
        key=b"u-1", value=b'{"query": "' + b"x" * 1_000_000, headers=[],
    )  # fmt: skip
    line = pretty_line(record("dead-letters", msgspec.json.encode(letter))).plain
    assert "clicks-3-89 not JSON: it ends" in line
    assert "1000011 bytes" in line
    assert len(line) < 400


def test_json_nested_beyond_the_decoder_is_shown_as_bytes() -> None:
    deep = record("clicks", b"[" * 100_000)
    assert json_line(deep).startswith('{"not_json"')
    assert len(pretty_line(deep).plain) < 400
