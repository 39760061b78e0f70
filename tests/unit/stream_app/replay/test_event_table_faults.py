"""What is no event table, or no whole one, is told with the fix; a writer that is killed leaves the table that was there."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from stream_app.errors import ConfigError, InputFileError
from stream_app.imports.mapping import load_mapping
from stream_app.replay import event_table_writer
from stream_app.replay.event_table import VERSION_KEY, EventTable, is_event_table
from stream_app.replay.sources import open_log
from tests.unit.stream_app.replay.test_canonical import write_log
from tests.unit.stream_app.replay.test_event_table import EVENTS, table_of

CHECKOUT = Path(__file__).resolve().parents[4]


def test_what_is_no_table_is_refused_with_the_fix(tmp_path: Path) -> None:
    table = table_of(write_log(tmp_path / "log.jsonl", EVENTS))
    assert is_event_table(table)
    assert not is_event_table(tmp_path / "log.jsonl")
    assert not is_event_table(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="leave out the mapping"):
        open_log([table], load_mapping("cards"))
    foreign, newer, narrow, short = (tmp_path / name for name in ("foreign", "newer", "narrow", "short"))
    read = parquet.read_table(table)
    parquet.write_table(read.replace_schema_metadata(), foreign)
    parquet.write_table(read.replace_schema_metadata({**read.schema.metadata, VERSION_KEY: b"2"}), newer)
    parquet.write_table(read.drop_columns(["dwell_ms"]), narrow)
    short.write_bytes(table.read_bytes()[:-100])
    for path, told in (
        (foreign, "no event table: name a --mapping"), (newer, "of version 2; this Millrace reads version 1"),
        (narrow, "lacks dwell_ms"), (short, "cut off"),
    ):  # fmt: skip
        with pytest.raises(InputFileError, match=told):
            EventTable(path)
        assert not is_event_table(path)
        log = open_log([path])
        assert list(log.records()) == []
        [problem] = log.problems.summary()
        assert problem["first"] == ["the whole file"]
        assert told in problem["reason"]


def test_a_table_that_is_damaged_further_on_gives_what_stands_before_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_table_writer, "_ROW_GROUP", 100)
    table = table_of(write_log(tmp_path / "log.jsonl", EVENTS))
    whole = list(open_log([table]).records())
    group = parquet.read_metadata(table).row_group(2)
    at = group.column(0).dictionary_page_offset or group.column(0).data_page_offset
    data = bytearray(table.read_bytes())
    data[at : at + 200] = b"\xff" * 200
    table.write_bytes(data)
    log = open_log([table])
    assert list(log.records()) == whole[:200]
    [problem] = log.problems.summary()
    assert problem["first"] == ["after row 200"]
    with EventTable(table) as opened, pytest.raises(InputFileError, match="row group 2"):
        opened.batch(2, ["time_ms"])


_KILLED = """
import sys, time
from pathlib import Path
from stream_app.replay import event_table_writer
from stream_app.replay.records import LogRecord

def records():
    for at in range(100):
        yield LogRecord(at, (0, at + 1, 0), "clicks", 0, at + 1, at, None, b"x")
    print("there", flush=True)
    time.sleep(60)

event_table_writer._ROW_GROUP = 10
with event_table_writer.EventTableWriter(Path(sys.argv[1]), [("log", "line")]) as writer:
    writer.write(records())
"""


def test_killed_it_leaves_the_table_that_was_there_and_the_next_run_replaces_it(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", EVENTS[:50])
    table = table_of(log)
    before = table.read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(table)], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert table.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir())[-2:] == ["log.jsonl", table.name]
    assert len(list(open_log([tmp_path]).records())) == 100  # a folder's log does not hold what was left behind
    assert table_of(write_log(log, EVENTS)) == table
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", table.name]
    assert list(open_log([table]).records()) == list(open_log([log]).records())


def test_a_disk_without_room_is_told_and_leaves_the_table_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_table_writer, "_ROW_GROUP", 50)
    table = table_of(write_log(tmp_path / "log.jsonl", EVENTS[:50]))
    before = table.read_bytes()
    log = write_log(tmp_path / "log.jsonl", EVENTS)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), most[1]))
    try:
        with pytest.raises(ConfigError, match=r"cannot write .*log\.table: .*too large"):
            table_of(log)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert table.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", table.name]
