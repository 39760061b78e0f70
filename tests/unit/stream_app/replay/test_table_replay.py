"""Features of an event table by its columns: against the replay of the log, record by record."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stream_app.config import ModelSettings, Settings
from stream_app.errors import InputFileError
from stream_app.imports.sink import JsonlSink
from stream_app.replay import assemble
from stream_app.replay.assemble import ReplayOptions, Told, replay_log
from stream_app.replay.event_table_writer import EventTableWriter
from stream_app.replay.problems import Problems
from stream_app.replay.sources import open_log
from stream_app.simulator.options import SimulatorOptions
from stream_app.simulator.shop import simulate

SETTINGS = Settings(model=ModelSettings(engine="none"))
# Of the run, or of answers, which are not made of a table's features alone.
OTHERS = {"seconds", "events_per_s", "answers", "alerts", "problems_by_reason"}


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
    summary = replay_log(settings, asked, Problems(), Told())
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}, summary


@pytest.mark.parametrize("batch", [7, 4_096])
def test_features_of_a_table_are_those_of_its_log_to_the_byte(batch: int, log: Path, tmp_path: Path) -> None:
    table = table_of([log], tmp_path / "log.parquet")
    expected, told = features(log, tmp_path / "expected")
    found, summary = features(table, tmp_path / "found", batch=batch)
    assert found == expected
    assert {name: value for name, value in summary.items() if name not in OTHERS} == {
        name: value for name, value in told.items() if name not in OTHERS
    }
    assert summary["dead_letters"] > 0
    assert summary["labels"] > 0
    assert summary["duplicates"] > 0
    assert summary["problems"] == summary["dead_letters"] + 1  # and one label that is none
    assert summary["answers"] == {}


def test_a_record_whose_clock_was_wrong_is_no_event_of_a_table_either(log: Path, tmp_path: Path) -> None:
    table = table_of([log], tmp_path / "log.parquet")
    strict = replace(SETTINGS, features=replace(SETTINGS.features, future_skew_ms=0))
    expected, told = features(log, tmp_path / "expected", strict)
    found, summary = features(table, tmp_path / "found", strict)
    assert found == expected
    assert summary["dead_letters"] == told["dead_letters"]
    assert [p["reason"] for p in summary["problems_by_reason"]] == [p["reason"] for p in told["problems_by_reason"]]


def test_a_strict_replay_of_a_table_ends_at_the_first_record_that_is_no_event(log: Path, tmp_path: Path) -> None:
    table = table_of([log], tmp_path / "log.parquet")
    options = ReplayOptions(paths=(str(table),), features_out=tmp_path / "found")
    with pytest.raises(InputFileError, match=r"log\.parquet, line \d+ of .*log\.jsonl: no event"):
        replay_log(SETTINGS, options, Problems(strict=True), Told())


def test_a_replay_of_a_table_that_is_told_to_stop_stops(log: Path, tmp_path: Path) -> None:
    table = table_of([log], tmp_path / "log.parquet")
    options = ReplayOptions(paths=(str(table),), features_out=tmp_path / "found", batch=100)
    summary = replay_log(SETTINGS, options, Problems(), Told(stop=lambda: True))
    assert 0 < summary["events"] <= 100
    assert (summary["complete"], summary["resumable"]) == (False, False)


def test_answers_and_several_files_are_replayed_record_by_record(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_given: object) -> None:
        raise AssertionError("the columns cannot say this")

    table = table_of([log], tmp_path / "log.parquet")
    monkeypatch.setattr(assemble, "replay_features", never)
    expected, _ = features(log, tmp_path / "expected")
    assert features(table, tmp_path / "answered", out=tmp_path / "answers")[0] == expected
    twice, _ = features(table, tmp_path / "twice", paths=(str(table), str(log)))
    assert len(twice) == len(expected)
