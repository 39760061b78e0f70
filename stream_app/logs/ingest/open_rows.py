"""Choose the reader of a file: CSV, JSON lines or Parquet, plain or compressed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from stream_app.errors import InputFileError
from stream_app.logs.ingest.json_rows import JsonRows
from stream_app.logs.ingest.mapping import LogMapping
from stream_app.logs.ingest.parquet_rows import ParquetRows
from stream_app.logs.ingest.rows import CsvRows, RowSource

_PARQUET_MAGIC: Final = b"PAR1"
_JSON_LINES: Final = (".jsonl", ".ndjson")  # suffixes of such files, without the suffix of a compression
_COMPRESSED: Final = (".gz", ".zst")
_READERS: Final[dict[str, Callable[[Path, LogMapping, list[str]], RowSource]]] = {
    "csv": CsvRows, "jsonl": JsonRows, "parquet": ParquetRows,
}  # fmt: skip


def open_rows(path: Path, mapping: LogMapping) -> RowSource:
    """Open a file in its format (`format_of`), to read the columns of the mapping.

    Raises:
        InputFileError: Missing, empty, unreadable, or without columns that the mapping uses.
        ConfigError: Parquet without pyarrow.
    """
    return _READERS[format_of(path, mapping)](path, mapping, mapping.columns())


def format_of(path: Path, mapping: LogMapping) -> Literal["csv", "jsonl", "parquet"]:
    """Return the format of a file: the mapping's, or the one that the file's name and first bytes indicate.

    Raises:
        InputFileError: The file is missing, empty, or contradicts the mapping.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as err:
        raise InputFileError(f"cannot read {path}: {err.strerror}. Name a CSV, JSON lines or Parquet file") from err
    if not magic:
        raise InputFileError(f"{path} is empty (0 bytes); was its download cut off?")
    declared = mapping.source.format
    if magic == _PARQUET_MAGIC:
        if declared not in ("", "parquet"):
            raise InputFileError(f"{path} is a Parquet file, but the mapping {mapping.origin} says {declared}: take another")
        return "parquet"
    if declared == "parquet":
        raise InputFileError(f"{path} is no Parquet file (it begins with {magic!r}); the mapping {mapping.origin} needs one")
    name = path.name.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return declared or ("jsonl" if name.endswith(_JSON_LINES) else "csv")
