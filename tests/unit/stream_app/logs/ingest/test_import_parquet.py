from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from stream_app.errors import ConfigError, InputFileError
from stream_app.logs.ingest.parquet_rows import ParquetRows
from tests.unit.stream_app.logs.ingest.mappings_for_tests import VISITS, mapping_from

pa = pytest.importorskip("pyarrow", reason="Parquet needs the extra `data`")
pq = pytest.importorskip("pyarrow.parquet")

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def write(path: Path, rows: int = 25) -> Path:
    table = pa.table(
        {
            "who": list(range(rows)),
            "when": pa.array([NOON.replace(tzinfo=None)] * rows, pa.timestamp("us")),
            "day": [date(2026, 1, 31)] * rows,
            "price": [None if number == 3 else number / 2 for number in range(rows)],
        }
    )
    pq.write_table(table, path, row_group_size=10)
    return path


def open_(path: Path, *used: str) -> ParquetRows:
    return ParquetRows(path, mapping_from(path.parent, VISITS), list(used))


def test_only_the_used_columns_are_read_and_times_are_epoch_milliseconds(tmp_path: Path) -> None:
    source = open_(write(tmp_path / "x.parquet"), "price", "when", "day")
    rows = [row for chunk in source.chunks(0, 7) for row in chunk]
    source.close()
    assert source.index == {"price": 0, "when": 1, "day": 2}
    assert source.total_rows == len(rows) == 25
    noon_ms = int(NOON.timestamp() * 1_000)
    assert rows[2] == (1.0, noon_ms, noon_ms - 12 * 3_600_000)
    assert rows[3][0] is None  # type: ignore[index]


@pytest.mark.parametrize("skip", [0, 1, 9, 10, 11, 24, 25, 30])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_chunks_after_a_position_are_the_rest_of_the_rows(tmp_path: Path, skip: int, size: int) -> None:
    source = open_(write(tmp_path / "x.parquet"), "who")
    assert [row for chunk in source.chunks(skip, size) for row in chunk] == [(number,) for number in range(skip, 25)]
    source.close()


def test_missing_columns_are_named_beside_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"lacks the columns what .* it has who, when, day, price"):
        open_(write(tmp_path / "x.parquet"), "who", "what")


def test_a_file_that_was_cut_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputFileError, match="no readable Parquet file"):
        open_(path, "who")


def test_without_pyarrow_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"millrace\[data\]"):
        open_(path, "who")
