from __future__ import annotations

from pathlib import Path

import pytest

from stream_app.errors import BrokerUnavailableError, ConfigError
from stream_app.logs.ingest.pace import Pace
from stream_app.logs.ingest.sink import JsonlSink, KafkaSink
from tests.unit.stream_app.logs.ingest.mappings_for_tests import read_jsonl

RECORDS = [("clicks", b"u1", b'{"a":1}', 5), ("orders", b"u2", b"\xff\xfe\x00", 6), ("clicks", b"u3", b"", 7)]


def test_a_file_of_lines_gives_back_what_was_sent_bytes_that_are_no_text_too(tmp_path: Path) -> None:
    with JsonlSink(tmp_path / "x.jsonl") as sink:
        for record in RECORDS:
            sink.send(*record)
    assert read_jsonl(tmp_path / "x.jsonl") == RECORDS


def test_a_file_is_continued_at_a_position_and_what_came_after_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with JsonlSink(path) as sink:
        sink.send(*RECORDS[0])
        sink.flush()
        position = sink.position()
        sink.send(*RECORDS[1])
    with JsonlSink(path, position) as sink:
        sink.send(*RECORDS[2])
    assert read_jsonl(path) == [RECORDS[0], RECORDS[2]]


def test_a_file_that_can_not_be_written_or_is_too_short_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folder that exists"):
        JsonlSink(tmp_path / "none" / "x.jsonl")
    (tmp_path / "x.jsonl").write_bytes(b"abc")
    with pytest.raises(ConfigError, match="--restart"):
        JsonlSink(tmp_path / "x.jsonl", 10)


def test_where_no_broker_answers_the_error_names_the_address_and_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_app.logs.ingest.sink._CONNECT_S", 0.2)
    with pytest.raises(BrokerUnavailableError, match=r"127.0.0.1:1 .*millrace services up"):
        KafkaSink("127.0.0.1:1", ["clicks"])


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_pace_holds_to_its_rate() -> None:
    time = Time()
    pace = Pace(100, lambda: time.now_s, time.sleep)
    for _ in range(1_001):
        pace.wait()
    assert time.now_s == pytest.approx(10.0)


def test_a_pace_of_zero_never_waits() -> None:
    time = Time()
    pace = Pace(0, lambda: time.now_s, time.sleep)
    for _ in range(1_000):
        pace.wait()
    assert time.now_s == 0


def test_after_a_stall_a_pace_catches_up_a_second_at_most() -> None:
    time = Time()
    pace = Pace(100, lambda: time.now_s, time.sleep)
    pace.wait()
    time.now_s = 60.0
    for _ in range(201):
        pace.wait()
    assert time.now_s == pytest.approx(61.0, abs=0.02)
