"""Parts of a table: what is set aside for a checkpoint is never written over, and a damaged one is told."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from stream_app.errors import ConfigError
from stream_app.logs.parquet_parts import ParquetParts


def test_a_checkpoint_without_new_rows_leaves_what_the_last_one_set_aside(tmp_path: Path) -> None:
    parts = ParquetParts(tmp_path, rows=10)
    parts.append(pa.table({"a": [1, 2, 3]}))
    at = parts.flush()
    [aside] = tmp_path.glob("pending*")
    before = aside.stat()
    assert parts.flush() == at
    after = aside.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    again = ParquetParts(tmp_path, at, rows=10)
    again.append(pa.table({"a": [4]}))
    again.finish()
    assert parquet.read_table(tmp_path / "part-00000.parquet").column("a").to_pylist() == [1, 2, 3, 4]


@pytest.mark.parametrize("kept", [0, 100])
def test_rows_that_were_set_aside_and_cut_off_are_told(tmp_path: Path, kept: int) -> None:
    parts = ParquetParts(tmp_path, rows=10)
    parts.append(pa.table({"a": [1, 2, 3]}))
    at = parts.flush()
    [aside] = tmp_path.glob("pending*")
    aside.write_bytes(aside.read_bytes()[:kept])
    with pytest.raises(ConfigError, match="--restart"):
        ParquetParts(tmp_path, at, rows=10)
