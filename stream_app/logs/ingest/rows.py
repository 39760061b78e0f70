"""Read the rows of a file in chunks: the parts that all formats share, and CSV. An unreadable row becomes a BadRow.

Rows are numbered from 1; the header and blank lines do not count. A truncated file yields its rows up to the cut, then raises.
"""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from stream_app.errors import InputFileError
from stream_app.logs.compression import DAMAGE, decompressed
from stream_app.logs.ingest.mapping import LogMapping, SourceFormat
from stream_app.logs.ingest.rules import Cells


@dataclass(frozen=True, slots=True)
class BadRow:
    """Takes the place of a row that cannot be read."""

    reason: str
    text: str = ""


class RowSource(ABC):
    """The rows of a file; `index`: column -> position in the cells."""

    index: dict[str, int]

    @abstractmethod
    def chunks(self, skip: int, size: int) -> Iterator[list[Cells | BadRow]]:
        """Yield all rows after the first `skip`, in order, at most `size` at a time.

        Raises:
            InputFileError: The file is damaged from here on.
        """

    @abstractmethod
    def done_ratio(self) -> float:
        """Return how much of the file has been read, in [0, 1]."""

    def never_filled(self) -> list[str]:
        """Return the used columns without a value in any row so far; none in formats whose rows have all columns."""
        return []

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


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


class TextRows(RowSource):
    """The rows of a text file, plain or compressed: `_checked` yields them, and the error that ends them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = max(1, path.stat().st_size)
        self._raw: BinaryIO = path.open("rb")
        self._rows = 0  # read so far

    @abstractmethod
    def _checked(self) -> Iterator[Cells | BadRow | InputFileError]: ...

    def chunks(self, skip: int, size: int) -> Iterator[list[Cells | BadRow]]:
        """Yield all rows after the first `skip`, at most `size` at a time; raise an error among them after the rows before it."""
        chunk: list[Cells | BadRow] = []
        for number, row in enumerate(self._checked(), 1):
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

    def done_ratio(self) -> float:
        """Return the share of the (compressed) bytes that has been read."""
        return 1.0 if self._raw.closed else min(1.0, self._raw.tell() / self._size)

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def _damage(self, err: Exception) -> InputFileError:
        """Describe an error of `compression.DAMAGE` after the rows read so far."""
        where = f"after row {self._rows} (about byte {self._raw.tell():,} of {self._size:,})"
        if isinstance(err, EOFError):
            return InputFileError(
                f"{self._path}: the compressed stream ends too early, {where}: the file was cut off. The rows before it are "
                "imported; get the whole file and run the same command, it goes on from there"
            )
        return InputFileError(f"{self._path}: cannot be read {where}: {err}. Check the file and the mapping's encoding")


class CsvRows(TextRows):
    """Rows of a CSV file: lists of texts, one per column."""

    def __init__(self, path: Path, mapping: LogMapping, used: list[str]) -> None:
        super().__init__(path)
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

    def close(self) -> None:
        """Close the file."""
        self._text.close()
        super().close()

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


def _text(raw: BinaryIO, encoding: str) -> TextIO:
    content = decompressed(raw)
    # The byte-order mark is not part of the first column's name. Bytes outside the encoding refuse their row, not the file.
    utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    return io.TextIOWrapper(content, "utf-8-sig" if utf8 else encoding, errors="surrogateescape", newline="")


def _dialect(source: SourceFormat) -> dict[str, Any]:
    if not source.quote:
        return {"delimiter": source.delimiter, "quoting": csv.QUOTE_NONE}
    return {"delimiter": source.delimiter, "quotechar": source.quote, "strict": True}
