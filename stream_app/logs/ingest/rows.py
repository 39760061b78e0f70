"""Rows of a file in chunks: what all formats share, and CSV. What cannot be read as a row is a BadRow, never dropped.

Rows are numbered from 1, without the header and without blank lines. A file that was cut off gives its rows up to there, then
raises.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, Protocol, TextIO

from stream_app.errors import InputFileError
from stream_app.logs.compression import DAMAGE, plain_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream_app.logs.ingest.mapping import LogMapping, SourceFormat
    from stream_app.logs.ingest.rules import Cells

__all__ = ["BadRow", "CsvRows", "RowSource", "check_columns", "damage", "format_of", "in_chunks", "open_rows"]

_PARQUET_MAGIC: Final = b"PAR1"
_JSON_LINES: Final = (".jsonl", ".ndjson")  # how such a file's name ends, before what it is compressed with
_COMPRESSED: Final = (".gz", ".zst")


@dataclass(frozen=True, slots=True)
class BadRow:
    """Stands in a row's place when the file has no readable row there."""

    reason: str
    text: str = ""


class RowSource(Protocol):
    """A file's rows."""

    index: dict[str, int]  # column -> place in the cells
    total_rows: int | None  # None: not known before the end

    def chunks(self, skip: int, size: int) -> Iterator[list[Cells | BadRow]]:
        """Yield all rows after the first `skip`, in order, at most `size` at a time.

        Raises:
            InputFileError: The file is damaged from here on.
        """
        ...

    def done_ratio(self) -> float:
        """Return how much of the file has been read, in [0, 1]."""
        ...

    def never_filled(self) -> list[str]:
        """Return the used columns that no row so far had a value in, where a row may lack columns; else none."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def open_rows(path: Path, mapping: LogMapping, used: list[str]) -> RowSource:
    """Open a file as the mapping says, or as its name and first bytes say.

    Args:
        path: The file.
        mapping: Its source section says how it is written.
        used: The columns that will be read.

    Raises:
        InputFileError: Missing, empty, unreadable, or without columns that the mapping uses.
        ConfigError: Parquet without pyarrow.
    """
    form = format_of(path, mapping)
    if form == "parquet":
        from stream_app.logs.ingest.parquet_rows import ParquetRows

        return ParquetRows(path, mapping, used)
    if form == "jsonl":
        from stream_app.logs.ingest.json_rows import JsonRows

        return JsonRows(path, mapping, used)
    return CsvRows(path, mapping, used)


def format_of(path: Path, mapping: LogMapping) -> Literal["csv", "jsonl", "parquet"]:
    """Return how a file is written: as the mapping says, or as the file's name and first bytes say.

    Raises:
        InputFileError: It is missing, empty, or evidently not what the mapping says.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as err:
        raise InputFileError(f"cannot read {path}: {err.strerror}. Name a CSV, JSON lines or Parquet file") from err
    if not magic:
        raise InputFileError(f"{path} is empty (0 bytes); was its download cut off?")
    told = mapping.source.format
    if magic == _PARQUET_MAGIC:
        if told not in ("", "parquet"):
            raise InputFileError(f"{path} is a Parquet file, but the mapping {mapping.origin} says {told}: use another mapping")
        return "parquet"
    if told == "parquet":
        raise InputFileError(f"{path} is no Parquet file (it begins with {magic!r}); the mapping {mapping.origin} needs one")
    name = path.name.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return told or ("jsonl" if name.endswith(_JSON_LINES) else "csv")


def check_columns(path: Path, mapping: LogMapping, used: list[str], there: list[str]) -> None:
    """Check that the file has the columns that the mapping uses, each once.

    Raises:
        InputFileError: It has not; the message names those that are missing and those that are there.
    """
    missing = [column for column in used if column not in there]
    if missing:
        raise InputFileError(
            f"{path} lacks the columns {', '.join(missing)} that the mapping {mapping.origin} uses; it has "
            f"{', '.join(there)}. Correct the mapping, or its delimiter and header"
        )
    twice = [column for column in used if there.count(column) > 1]
    if twice:
        raise InputFileError(f"{path} has the columns {', '.join(twice)} more than once; rename them in its header")


def in_chunks(rows: Iterator[Cells | BadRow | InputFileError], skip: int, size: int) -> Iterator[list[Cells | BadRow]]:
    """Cut the rows after the first `skip` into lists of at most `size`.

    Raises:
        InputFileError: The one that stands among the rows, after those before it.
    """
    chunk: list[Cells | BadRow] = []
    for number, row in enumerate(rows, 1):
        if isinstance(row, InputFileError):
            if chunk:
                yield chunk
            raise row
        if number <= skip:
            continue
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def damage(err: Exception, path: Path, rows: int, at: int, size: int) -> InputFileError:
    """Say why a file cannot be read any further: one of `compressed.DAMAGE`, after so many rows, at a byte of its size."""
    where = f"after row {rows} (about byte {at:,} of {size:,})"
    if isinstance(err, EOFError):
        return InputFileError(
            f"{path}: the compressed stream ends too early, {where}: the file was cut off. The rows before it are "
            "imported; get the whole file and run the same command, it goes on from there"
        )
    return InputFileError(f"{path}: cannot be read {where}: {err}. Check the file and the mapping's encoding")


class CsvRows:
    """Rows of a CSV file: lists of texts, as many as there are columns."""

    def __init__(self, path: Path, mapping: LogMapping, used: list[str]) -> None:
        self._path = path
        self._size = max(1, path.stat().st_size)
        self._raw: BinaryIO = path.open("rb")
        self._rows = 0
        try:
            self._text = _text(self._raw, mapping.source.encoding)
            self._reader: Any = csv.reader(self._text, **_dialect(mapping.source))
            columns = list(mapping.source.columns)
            if mapping.source.header:
                columns = [name.strip() for name in self._header()]
            check_columns(path, mapping, used, columns)
        except InputFileError:
            self._raw.close()
            raise
        self._width = len(columns)
        self.index = {column: place for place, column in enumerate(columns)}
        self.total_rows: int | None = None

    def done_ratio(self) -> float:
        """Return how much of the file has been read, by its (compressed) bytes."""
        return 1.0 if self._raw.closed else min(1.0, self._raw.tell() / self._size)

    def never_filled(self) -> list[str]:
        """Return none: a row has all columns of the file."""
        return []

    def close(self) -> None:
        """Close the file."""
        self._text.close()
        self._raw.close()

    def chunks(self, skip: int, size: int) -> Iterator[list[Cells | BadRow]]:
        """Yield all rows after the first `skip`, at most `size` at a time."""
        return in_chunks(self._checked(), skip, size)

    def _checked(self) -> Iterator[Cells | BadRow | InputFileError]:
        width = self._width
        while True:
            line = self._reader.line_num + 1
            try:
                for cells in self._reader:
                    if cells:
                        self._rows += 1
                    if len(cells) == width:
                        yield cells
                    elif cells:
                        yield BadRow(f"the row has {len(cells)} cells, the file {width} columns", ",".join(cells)[:500])
                    line = self._reader.line_num + 1
            except csv.Error as err:
                self._rows += 1
                yield BadRow(f"not CSV: {err}", f"lines {line} to {self._reader.line_num}")
            except DAMAGE as err:
                yield self._damage(err)
                return
            else:
                return

    def _header(self) -> list[str]:
        try:
            return next(iter(self._reader), [])
        except csv.Error as err:
            raise InputFileError(f"{self._path} has no readable header: {err}") from err
        except DAMAGE as err:
            raise self._damage(err) from err

    def _damage(self, err: Exception) -> InputFileError:
        return damage(err, self._path, self._rows, self._raw.tell(), self._size)


def _text(raw: BinaryIO, encoding: str) -> TextIO:
    plain = plain_bytes(raw)
    # A byte-order mark is no part of the first column's name; bytes outside of the encoding refuse their row, not the file.
    utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    return io.TextIOWrapper(plain, "utf-8-sig" if utf8 else encoding, errors="surrogateescape", newline="")


def _dialect(source: SourceFormat) -> dict[str, Any]:
    if not source.quote:
        return {"delimiter": source.delimiter, "quoting": csv.QUOTE_NONE}
    return {"delimiter": source.delimiter, "quotechar": source.quote, "strict": True}
