"""`millrace sort`: a log becomes one event table; what is wrong is told before the work, or counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stream_app.__main__ import millrace
from stream_app.logs.log_source import open_log
from tests.scoring import make_events
from tests.unit.stream_app.replay.test_canonical import write_log

EVENTS = make_events(60, users=["u-1", "u-2"], devices=["d"])


def ran(*arguments: object) -> Result:
    return CliRunner().invoke(millrace, ["sort", *map(str, arguments)])


def test_several_files_become_one_table_and_the_last_line_says_what_it_holds(tmp_path: Path) -> None:
    write_log(tmp_path / "b.jsonl", EVENTS[30:])
    write_log(tmp_path / "a.jsonl", EVENTS[:30])
    with (tmp_path / "b.jsonl").open("ab") as file:
        file.write(b"no record\n")
    done = ran(tmp_path / "*.jsonl", "--out", tmp_path / "log.parquet")
    assert done.exit_code == 0, done.output
    line = json.loads(done.stdout.splitlines()[-1])
    assert {name: line[name] for name in ("records", "events", "labels", "no_events", "problems")} == {
        "records": 60, "events": 60, "labels": 0, "no_events": 0, "problems": 1,
    }  # fmt: skip
    assert line["problems_by_reason"][0]["first"] == ["line 31"]
    assert line["bytes"] == (tmp_path / "log.parquet").stat().st_size
    assert "line 31: no record" in done.stderr
    assert list(open_log([tmp_path / "log.parquet"]).records()) == list(open_log([tmp_path / "*.jsonl"]).records())


def test_a_log_that_is_nearly_in_order_is_sorted_on_the_way(tmp_path: Path) -> None:
    by_time = sorted(EVENTS, key=lambda event: event.event_time_ms)
    log = write_log(tmp_path / "log.jsonl", [*by_time[1:], by_time[0]])
    done = ran(log, "--out", tmp_path / "t", "--sort-window", "0.1")
    assert json.loads(done.stdout.splitlines()[-1])["problems_by_reason"][0]["first"][0].startswith("line 60 ")
    assert len(list(open_log([tmp_path / "t"]).records())) == 59
    done = ran(log, "--out", tmp_path / "t", "--sort-window", "0.1", "--strict")
    assert done.exit_code == 1
    assert "line 60" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["log.jsonl", "--out", "log.jsonl"], "is a file of the log"),
        (["log.jsonl", "--out", "nowhere/t"], "cannot write nowhere/t: No such file or directory"),
        (["--out", "t"], "name log files"),
        (["none.jsonl", "--out", "t"], "there is no log file none.jsonl"),
        (["log.jsonl", "--out", "t", "--mapping", "nothing"], "nothing"),
        (["log.jsonl"], "--out"),
        (["log.jsonl", "--out", "t", "--since", "2026-01-01"], "--since: only with --from-topics"),
        (["--from-topics", "--out", "t", "--sort-window", "5"], "--sort-window is for files"),
    ],
)
def test_what_cannot_be_done_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = write_log(Path("log.jsonl"), EVENTS).read_bytes()
    done = ran(*arguments)
    assert done.exit_code == 2
    assert told in done.output
    assert Path("log.jsonl").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
