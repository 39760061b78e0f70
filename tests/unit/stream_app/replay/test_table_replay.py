"""Features of an event table by its columns: against the replay of the log, record by record."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stream_app.config import ModelSettings, Settings
from stream_app.errors import InputFileError
from stream_app.logs.event_table_writer import EventTableWriter
from stream_app.logs.ingest.sink import JsonlSink
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_source import open_log
from stream_app.replay import replay_job
from stream_app.replay.replay_job import Callbacks, ReplayOptions, replay_log
from stream_app.simulator.options import SimulatorOptions
from stream_app.simulator.shop import simulate

SETTINGS = Settings(model=ModelSettings(engine="none"))
# Of the run, or of answers, which are not made of a table's features alone.
NOT_COMPARED = {"seconds", "events_per_s", "answers", "alerts", "problems_by_reason"}
JUMP_MS = 400 * 86_400_000


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated shop's disordered log: duplicates, late events, labels, records that are no events."""
    path = tmp_path_factory.mktemp("shop") / "log.jsonl"
    with closing(JsonlSink(path)) as sink:
        for record in simulate(SimulatorOptions(events=3_000, malformed_share=0.01, duplicate_share=0.02)):
            sink.send(record.topic, record.key or b"", record.value or b"", record.time_ms)
        sink.send("labels", b"u", b"{}", record.time_ms)  # no label
        sink.flush()
    return path


def table_of(logs: Iterable[Path], out: Path) -> Path:
    source = open_log(list(logs))
    with EventTableWriter(out, source.sources) as writer:
        writer.write(source.records())
    return out


def features(log: Path, folder: Path, settings: Settings = SETTINGS, **options: Any) -> tuple[dict[str, bytes], dict[str, Any]]:
    asked = replace(ReplayOptions(paths=(str(log),), features_out=folder), **options)
    summary = replay_log(settings, asked, LogIssues(), Callbacks())
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}, summary


def issues(summary: dict[str, Any]) -> list[tuple[str, int]]:
    """Reasons and counts of what was wrong; the files have different names."""
    return sorted((problem["reason"], problem["count"]) for problem in summary["problems_by_reason"])


@pytest.mark.parametrize("batch", [7, 4_096])
def test_features_of_a_table_are_those_of_its_log_to_the_byte(batch: int, log: Path, tmp_path: Path) -> None:
    table = table_of([log], tmp_path / "log.parquet")
    expected, log_summary = features(log, tmp_path / "expected")
    written, summary = features(table, tmp_path / "found", batch=batch)
    assert written == expected
    assert {name: value for name, value in summary.items() if name not in NOT_COMPARED} == {
        name: value for name, value in log_summary.items() if name not in NOT_COMPARED
    }
    assert summary["dead_letters"] > 0
    assert summary["labels"] > 0
    assert summary["duplicates"] > 0
    assert summary["problems"] == summary["dead_letters"] + 1  # and one label that is none
    assert (summary["answers"], summary["alerts"]) == (None, None)
    assert issues(summary) == issues(log_summary)


def test_a_record_whose_clock_was_wrong_is_no_event_of_a_table_either(log: Path, tmp_path: Path) -> None:
    table = table_of([log], tmp_path / "log.parquet")
    strict = replace(SETTINGS, features=replace(SETTINGS.features, future_skew_ms=0))
    expected, log_summary = features(log, tmp_path / "expected", strict)
    written, summary = features(table, tmp_path / "found", strict)
    assert written == expected
    assert summary["dead_letters"] == log_summary["dead_letters"]
    assert [p["reason"] for p in summary["problems_by_reason"]] == [p["reason"] for p in log_summary["problems_by_reason"]]


def test_a_strict_replay_of_a_table_ends_at_the_first_record_that_is_no_event(log: Path, tmp_path: Path) -> None:
    table = table_of([log], tmp_path / "log.parquet")
    options = ReplayOptions(paths=(str(table),), features_out=tmp_path / "found")
    with pytest.raises(InputFileError, match=r"log\.parquet, line \d+ of .*log\.jsonl: no event"):
        replay_log(SETTINGS, options, LogIssues(strict=True), Callbacks())


def test_a_replay_of_a_table_ends_at_the_stop_flag(log: Path, tmp_path: Path) -> None:
    table = table_of([log], tmp_path / "log.parquet")
    options = ReplayOptions(paths=(str(table),), features_out=tmp_path / "found", batch=100)
    summary = replay_log(SETTINGS, options, LogIssues(), Callbacks(stop=lambda: True))
    assert 0 < summary["events"] <= 200
    assert (summary["complete"], summary["resumable"]) == (False, False)
    assert summary["records"] == summary["events"] + summary["dead_letters"]
    assert summary["records"] < 3_000


def test_a_jump_of_time_and_a_label_that_is_too_deep_are_reported_as_of_the_log(log: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in log.read_text().splitlines() if r'"topic":"clicks"' in line and "dwell_ms" in line][:20]
    for line in lines[10:]:
        value = json.loads(line["value"])
        line["value"] = json.dumps({**value, "event_time_ms": value["event_time_ms"] + JUMP_MS})
        line["time_ms"] += JUMP_MS
    deep = {"topic": "labels", "key": "u", "value": '{"x": ' + "[" * 200_000, "time_ms": lines[5]["time_ms"]}
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(line) + "\n" for line in [*lines, deep]))
    table = table_of([other], tmp_path / "log.parquet")
    expected, _ = features(other, tmp_path / "expected")
    written, summary = features(table, tmp_path / "found")
    assert written == expected
    assert any("180 days" in reason for reason, _ in issues(summary))
    assert any(reason.startswith("no label") for reason, _ in issues(summary))
    with pytest.raises(InputFileError, match=r"180 days|no label"):
        replay_log(SETTINGS, ReplayOptions(paths=(str(table),), features_out=tmp_path / "f"), LogIssues(strict=True), Callbacks())


def test_a_damaged_table_gives_what_stands_before_the_damage_and_says_where(log: Path, tmp_path: Path) -> None:
    table = table_of([log], tmp_path / "log.parquet")
    whole, _ = features(table, tmp_path / "whole")
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(table.read_bytes()[:-100])
    written, summary = features(cut, tmp_path / "found")
    assert (written, summary["events"], summary["complete"], summary["problems"]) == ({}, 0, True, 1)
    data = bytearray(table.read_bytes())
    data[len(data) // 4] ^= 0xFF  # within the columns of the first row group
    cut.write_bytes(data)
    written, summary = features(cut, tmp_path / "rotten")
    assert written in ({}, whole)  # whole, if the bit is of a column that features do not need
    assert summary["problems"] == 1 or written == whole


def test_answers_and_several_files_are_replayed_record_by_record(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_given: object) -> None:
        raise AssertionError("the columns cannot say this")

    table = table_of([log], tmp_path / "log.parquet")
    monkeypatch.setattr(replay_job, "replay_features", never)
    expected, _ = features(log, tmp_path / "expected")
    assert features(table, tmp_path / "answered", out=tmp_path / "answers")[0] == expected
    _, once = features(log, tmp_path / "once")
    _, twice = features(table, tmp_path / "twice", paths=(str(table), str(log)))
    assert twice["events"] == 2 * once["events"]
