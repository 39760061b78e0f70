"""What is no event table, or no whole one, is told with the fix; a writer that is killed leaves the table that was there."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from stream_app.errors import ConfigError, InputFileError
from stream_app.logs import event_table, event_table_writer
from stream_app.logs.event_table import DICTIONARIES, EVENT_FIELDS, SOURCES_KEY, VERSION_KEY, EventTable, is_event_table
from stream_app.logs.ingest.mapping import load_mapping
from stream_app.logs.log_records import LogRecord
from stream_app.logs.log_source import open_log
from tests.unit.stream_app.logs.test_event_table import EVENTS, table_of
from tests.unit.stream_app.replay.test_canonical import write_log

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


_READ = ["time_ms", "timestamp", "topic", *EVENT_FIELDS]


def read_whole(path: Path) -> tuple[list[LogRecord], list[object]]:
    with EventTable(path) as table:
        batches = [table.batch(group, _READ, DICTIONARIES).to_pylist() for group in range(table.row_groups)]
        return list(table.records()), batches


def test_a_bit_that_flipped_is_told_or_changes_nothing_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_table_writer, "_ROW_GROUP", 200)
    monkeypatch.chdir(tmp_path)  # the table holds the log's name: the same bits flip each time
    path = table_of(write_log(Path("log.jsonl"), EVENTS))
    whole, good = read_whole(path), path.read_bytes()
    pages = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    draw, told = random.Random(5), 0
    for at in (draw.randrange(4, end) for end in (pages, pages, pages, len(good)) for _ in range(20)):
        rotten = bytearray(good)
        rotten[at] ^= 1 << draw.randrange(8)
        path.write_bytes(rotten)
        try:
            assert read_whole(path) == whole, at
        except InputFileError:
            told += 1
    assert told > 40


@pytest.mark.parametrize("sources", [None, b"", b"[[", b'{"a": 1}', b'[["log"]]', b"\xff", b"[" * 5_000])
def test_a_table_that_does_not_say_what_it_was_made_from_is_refused(tmp_path: Path, sources: bytes | None) -> None:
    path = table_of(write_log(tmp_path / "log.jsonl", EVENTS[:5]))
    read = parquet.read_table(path)
    kept = {key: value for key, value in read.schema.metadata.items() if key != SOURCES_KEY}
    parquet.write_table(read.replace_schema_metadata(kept if sources is None else {**kept, SOURCES_KEY: sources}), path)
    with pytest.raises(InputFileError, match=r"which files it was made from.*millrace sort"):
        EventTable(path)
    log = open_log([path])
    assert list(log.records()) == []
    assert [problem["first"] for problem in log.problems.summary()] == [["the whole file"]]


def test_a_table_that_others_wrote_again_may_have_row_groups_without_rows(tmp_path: Path) -> None:
    path = table_of(write_log(tmp_path / "log.jsonl", EVENTS))
    records, [rows] = read_whole(path)
    read = parquet.read_table(path)
    with parquet.ParquetWriter(path, read.schema) as writer:
        for part in (read.slice(0, 0), read, read.slice(0, 0)):
            writer.write_table(part)
    assert read_whole(path) == (records, [[], rows, []])
    with EventTable(path) as table:
        empty, full = (table.batch(group, _READ, DICTIONARIES) for group in (0, 1))
        assert empty.schema.equals(full.schema)
        assert list(table.select(0, [])) == []


def test_a_row_group_of_fewer_rows_than_the_file_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table_of(write_log(tmp_path / "log.jsonl", EVENTS[:5]))
    read, batches = parquet.ParquetFile.read_row_group, parquet.ParquetFile.iter_batches
    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", lambda *given, **named: read(*given, **named).slice(1))
    monkeypatch.setattr(
        parquet.ParquetFile, "iter_batches", lambda *given, **named: (part.slice(1) for part in batches(*given, **named))
    )
    with EventTable(path) as table:
        with pytest.raises(InputFileError, match=r"row group 0: 4 rows, where 5 are said to be"):
            table.batch(0, ["time_ms"])
        with pytest.raises(InputFileError, match=r"row group 0: 4 rows, where 5 are said to be"):
            list(table.records())


def test_a_record_without_a_time_or_a_topic_is_told(tmp_path: Path) -> None:
    path = table_of(write_log(tmp_path / "log.jsonl", EVENTS[:5]))
    read = parquet.read_table(path)
    for name in ("time_ms", "topic"):
        at, field = read.schema.get_field_index(name), read.schema.field(name)
        parquet.write_table(read.set_column(at, field, pa.array([None] * 5, field.type)), path)
        with EventTable(path) as table:
            for reads in (lambda table=table: list(table.records()), lambda table=table, name=name: table.batch(0, [name])):
                with pytest.raises(InputFileError, match=rf"row group 0: {name} of a record is null"):
                    reads()


def test_a_column_larger_than_an_array_holds_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table_of(write_log(tmp_path / "log.jsonl", EVENTS[:5]))
    most = (1 << 31) - 1
    offsets, untouched = pa.py_buffer(np.array([0, most], np.int32)), pa.py_buffer(np.empty(most, np.uint8))  # takes no memory
    huge = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, untouched])
    read = pa.table({"value": pa.chunked_array([huge, huge])})
    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", lambda *_given, **_named: read)
    with (
        EventTable(path) as table,
        pytest.raises(InputFileError, match=r"column value of row group 0 .*at most 2147483647"),
    ):
        table.batch(0, ["value"])


def test_a_text_that_is_not_in_its_dictionary_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table_of(write_log(tmp_path / "log.jsonl", EVENTS[:5]))
    codes, texts = pa.array([0, 1, 0, 0, 2], pa.int32()), pa.array(["u-1", "u-2"])
    read = pa.table({"user": pa.DictionaryArray.from_arrays(codes, texts, safe=False)})
    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", lambda *_given, **_named: read)
    with EventTable(path) as table, pytest.raises(InputFileError, match="row group 0"):
        table.batch(0, ["user"], ["user"])


def test_single_records_are_taken_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table_of(write_log(tmp_path / "log.jsonl", EVENTS))
    whole, sizes = list(open_log([path]).records()), list[int]()
    made = event_table._records_of

    def counted(batch: pa.RecordBatch) -> list[LogRecord]:
        sizes.append(len(batch))
        return made(batch)

    monkeypatch.setattr(event_table, "_records_of", counted)
    monkeypatch.setattr(event_table, "_READ_ROWS", 50)
    rows = [3, 49, 50, 51, *range(120, 400, 2)]
    with EventTable(path) as table:
        assert list(table.select(0, rows)) == [whole[row] for row in rows]
    assert max(sizes) <= 50


_KILLED = """
import sys, time
from pathlib import Path
from stream_app.logs import event_table_writer
from stream_app.logs.log_records import LogRecord

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
