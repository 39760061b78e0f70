"""Read the rows of a file in chunks: the parts that all formats share, and CSV. An unreadable row becomes a BadRow.

Rows are numbered from 1; the header and blank lines do not count. A truncated file yields its rows up to the cut, then raises.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TextIO

from stream_app.errors import InputFileError
from stream_app.logs.compression import DAMAGE, decompressed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream_app.logs.ingest.mapping import LogMapping, SourceFormat
    from stream_app.logs.ingest.rules import Cells


@dataclass(frozen=True, slots=True)
class BadRow:
    """Takes the place of a row that cannot be read."""

    reason: str
    text: str = ""


class RowSource(Protocol):
    """The rows of a file."""

    index: dict[str, int]  # column -> position in the cells
    total_rows: int | None  # None: unknown before the end

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
        """Return the used columns without a value in any row so far; none in formats whose rows have all columns."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def check_columns(path: Path, mapping: LogMapping, used: list[str], columns: list[str]) -> None:
    """Check that the file has each column that the mapping uses exactly once.

    Raises:
        InputFileError: A column is missing or repeated; the message names these and the columns of the file.
    """
    missing = [column for column in used if column not in columns]
    if missing:
        raise InputFileError(
            f"{path} lacks the columns {', '.join(missing)} that the mapping {mapping.origin} uses; it has "
            f"{', '.join(columns)}. Correct the mapping, or its delimiter and header"
        )
    twice = [column for column in used if columns.count(column) > 1]
    if twice:
        raise InputFileError(f"{path} has the columns {', '.join(twice)} more than once; rename them in its header")


def in_chunks(rows: Iterator[Cells | BadRow | InputFileError], skip: int, size: int) -> Iterator[list[Cells | BadRow]]:
    """Cut the rows after the first `skip` into lists of at most `size`.

    Raises:
        InputFileError: An error among the rows, after the rows before it.
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
    """Describe an error of `compression.DAMAGE` after `rows` rows, at byte `at` of `size`."""
    where = f"after row {rows} (about byte {at:,} of {size:,})"
    if isinstance(err, EOFError):
        return InputFileError(
            f"{path}: the compressed stream ends too early, {where}: the file was cut off. The rows before it are "
            "imported; get the whole file and run the same command, it goes on from there"
        )
    return InputFileError(f"{path}: cannot be read {where}: {err}. Check the file and the mapping's encoding")


class CsvRows:
    """Rows of a CSV file: lists of texts, one per column."""

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
        """Return the share of the (compressed) bytes that has been read."""
        return 1.0 if self._raw.closed else min(1.0, self._raw.tell() / self._size)

    def never_filled(self) -> list[str]:
        """Return an empty list: each row has all columns."""
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
    content = decompressed(raw)
    # The byte-order mark is not part of the first column's name. Bytes outside the encoding refuse their row, not the file.
    utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    return io.TextIOWrapper(content, "utf-8-sig" if utf8 else encoding, errors="surrogateescape", newline="")


def _dialect(source: SourceFormat) -> dict[str, Any]:
    if not source.quote:
        return {"delimiter": source.delimiter, "quoting": csv.QUOTE_NONE}
    return {"delimiter": source.delimiter, "quotechar": source.quote, "strict": True}
