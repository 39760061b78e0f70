from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from stream_app.errors import InputFileError
from stream_app.logs.ingest.sink import JsonlSink
from stream_app.profiling import table_files
from stream_app.profiling.table_files import ColumnTable, read_table


def read(path: Path, content: str | bytes, most_rows: int | None = None) -> ColumnTable:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path, most_rows)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("comma", [",", ";", "\t", "|"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_csv_is_read_with_its_delimiter_plain_or_compressed(
    tmp_path: Path, mark: str, comma: str, pack: Callable[[bytes], bytes]
) -> None:
    text = mark + comma.join(["user", "amount"]) + "\r\n" + "".join(f"u{n}{comma}{n}.5\r\n" for n in range(50))
    table = read(tmp_path / "x.csv", pack(text.encode()))
    assert table.names == ["user", "amount"]
    assert table.rows == 50
    assert table.columns[0][:2] == ["u0", "u1"]
    assert not table.headless


def test_a_csv_without_a_header_gets_numbered_or_mapped_names(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    table = read(path, "17,pv,1511658000\n18,buy,1511658001\n")
    assert (table.names, table.headless, table.rows) == (["c1", "c2", "c3"], True, 2)
    named = read_table(path, names=("user", "what", "time"))
    assert (named.names, named.headless, named.rows) == (["user", "what", "time"], False, 2)
    with pytest.raises(InputFileError, match="has 3 columns, the mapping names 1"):
        read_table(path, names=("user",))


def test_names_that_come_twice_are_told_apart_and_short_rows_are_left_out(tmp_path: Path) -> None:
    table = read(tmp_path / "x.csv", "a,a,b\nx,y,z\nshort\n1,2,3\n")
    assert table.names == ["a", "a_2", "b"]
    assert table.rows == 2


def test_a_large_cell_a_line_separator_in_a_text_and_a_trailing_delimiter_are_read(tmp_path: Path) -> None:
    assert read(tmp_path / "x.csv", f"a,b\n1,{'x' * 140_000}\n2,y\u2028z\n").columns[1][1] == "y\u2028z"
    assert read(tmp_path / "x.csv", "a,b\n1,x,\n2,y,\n").columns == [["1", "2"], ["x", "y"]]
    text = json.dumps({"text": "y\u2028z"}, ensure_ascii=False)
    assert read(tmp_path / "x.jsonl", f"{text}\n{text}\n").columns == [["y\u2028z"] * 2]


@pytest.mark.parametrize("bad", ['2,"x', '"2,x', '2,x "y"",z'])
def test_a_quote_that_never_closes_costs_one_line(tmp_path: Path, bad: str) -> None:
    rows = "".join(f"{n},y\n" for n in range(3, 900))
    table = read(tmp_path / "x.csv", f"a,b\n1,x\n{bad}\n{rows}")
    assert table.columns[0] == ["1", *(str(n) for n in range(3, 900))]


def test_a_cell_beyond_the_limit_is_an_error_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "_CELL_LIMIT", 100)
    with pytest.raises(InputFileError, match="line 3: not CSV: field larger"):
        read(tmp_path / "x.csv", "a,b\n1,x\n2," + "y" * 200 + "\n")


def test_a_file_longer_than_what_is_sniffed_is_read_whole_and_up_to_a_bound(tmp_path: Path) -> None:
    text = "user,n\n" + "".join(f"user-{n},{n}\n" for n in range(20_000))
    seen: list[int] = []
    table = read(tmp_path / "x.csv", text)
    assert [int(n) for n in table.columns[1]] == list(range(20_000))
    assert not table.more
    few = read_table(tmp_path / "x.csv", 10_000, seen.append)
    assert (few.rows, few.more, seen) == (10_000, True, [10_000])


def test_json_lines_are_flattened_and_missing_fields_are_none(tmp_path: Path) -> None:
    lines = [
        {"user": "a", "at": {"ms": 1}},
        {"user": "b", "lines": [{"item": "i"}, {"item": "j"}]},
        {"user": "c", "tags": [1, 2, 3]},
    ]
    table = read(tmp_path / "x.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    columns = dict(zip(table.names, table.columns, strict=True))
    assert columns == {
        "user": ["a", "b", "c"],
        "at.ms": [1, None, None],
        "lines.count": [None, 2, None],
        "lines.item": [None, "i", None],
        "tags.count": [None, None, 3],
    }


def test_a_file_that_millrace_wrote_shows_its_events(tmp_path: Path) -> None:
    with JsonlSink(tmp_path / "x.jsonl") as sink:
        sink.send("clicks", b"u", b'{"user": "u", "item": "i"}', 5)
        sink.send("clicks", b"u", b"{broken", 6)
    table = read_table(tmp_path / "x.jsonl")
    assert dict(zip(table.names, table.columns, strict=True)) == {
        "topic": ["clicks", "clicks"],
        "user": ["u", None],
        "item": ["i", None],
    }


def test_parquet_times_come_as_milliseconds_and_are_declared(tmp_path: Path) -> None:
    at = [datetime(2018, 4, 1, 0, 0, n, tzinfo=UTC).replace(tzinfo=None) for n in range(3)]
    pq.write_table(pa.table({"t": pa.array(at, pa.timestamp("us")), "n": [1, 2, 3]}), tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet")
    assert table.times == {"t"}
    assert table.columns == [[1_522_540_800_000, 1_522_540_801_000, 1_522_540_802_000], [1, 2, 3]]
    assert read_table(tmp_path / "x.parquet", 2).more


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"just words\nand more\n", "has one column when read as CSV"),
        (b"a,b\n", "a header and no rows"),
        (b'{"a": 1}\n{"a": \n', "line 2 is no JSON"),
        (b'{"a": 1}\n[1]\n', "line 2 is JSON but no object"),
        (b"{}\n{}\n", "has 2 JSON objects and no field"),
        (b"PAR1 and nothing", "no readable Parquet file"),
        (gzip.compress(b"a,b\n" * 100_000)[:200], "cut off or damaged"),
    ],
)
def test_an_unreadable_file_is_refused_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputFileError, match=message):
        read(tmp_path / "x", content)


def test_a_parquet_file_without_a_row_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())}), tmp_path / "x.parquet")
    with pytest.raises(InputFileError, match="has 2 columns and no rows"):
        read_table(tmp_path / "x.parquet")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="cannot read"):
        read_table(tmp_path / "x")
