"""Files of rows as columns of texts: CSV, TSV, JSON and Parquet, plain or gzip, each row with its place in the file.

Every cell is a text, an absent one is "". `numbers_of` and `times_of` convert a column; an error names the place of the cell. Why
this is neither pyarrow's nor DuckDB's reader: docs/adr/0024.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_app.errors import InputFileError

_GZIP_MAGIC: Final = b"\x1f\x8b"
_PARQUET_MAGIC: Final = b"PAR1"
_FIELD_LIMIT: Final = 1 << 24  # characters of one cell: a review has some thousands, csv's own limit is 131,072
_SECONDS_BELOW: Final = 100_000_000_000  # as milliseconds that is March 1973


class ColumnReading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a file of rows is written.

    Attributes:
        header: whether the first line names the columns.
        columns: their names, for a file without a header.
        delimiter: between cells; "" = a tab for names with .tsv, else a comma.
        quote: around cells that hold a delimiter; "" = cells are never quoted.
        encoding: of the texts; a byte-order mark is skipped.
    """

    header: bool = True
    columns: tuple[str, ...] = ()
    delimiter: str = ""
    quote: str = '"'
    encoding: str = "utf-8-sig"


@dataclass(frozen=True)
class TableColumns:
    """N rows of one or more files.

    Attributes:
        cells: by column, each N texts.
        places: ("file", line) of each row; in Parquet and JSON its number from 1.
    """

    cells: dict[str, list[str]]
    places: list[tuple[str, int]]

    def __len__(self) -> int:
        """Return N."""
        return len(self.places)

    def __getitem__(self, column: str) -> list[str]:
        """Return a column's N texts.

        Raises:
            InputFileError: There is no such column.
        """
        if column not in self.cells:
            file = self.places[0][0] if self.places else "the file"
            raise InputFileError(
                f"{file} has no column {column!r} that [source] names; it has {', '.join(self.cells)}. Correct the name in "
                "[source], or header, columns and delimiter in [source.reading]"
            )
        return self.cells[column]

    def where(self, row: int, column: str) -> str:
        """Return the place of a cell, for a message."""
        file, line = self.places[row]
        return f"{file}, line {line}, column {column!r}"


def numbers_of(columns: TableColumns, column: str, missing: Sequence[str]) -> NDArray[np.float64]:
    """Return a column's (N,) numbers, NaN where missing; true and false are 1 and 0.

    Raises:
        InputFileError: A cell is no number.
    """
    known = {**dict.fromkeys(missing, np.nan), "True": 1.0, "False": 0.0, "true": 1.0, "false": 0.0}
    values = np.empty(len(columns))
    for row, text in enumerate(columns[column]):
        try:
            values[row] = known[text] if text in known else float(text)
        except ValueError as err:
            raise InputFileError(
                f"{columns.where(row, column)}: {text!r} is no number. Declare the column as categorical, "
                "or the text as missing, in [source]"
            ) from err
    return values


def times_of(columns: TableColumns, column: str) -> NDArray[np.int64]:
    """Return (N,) int64 milliseconds since 1970 UTC; zeros for column "".

    Raises:
        InputFileError: A cell is no time.
    """
    if not column:
        return np.zeros(len(columns), np.int64)
    values = np.empty(len(columns), np.int64)
    for row, text in enumerate(columns[column]):
        try:
            values[row] = _time_ms(text)
        except ValueError as err:
            raise InputFileError(
                f"{columns.where(row, column)}: {text!r} is no time: neither a number of seconds or milliseconds nor ISO 8601. "
                "Name another column as time in [source]"
            ) from err
    return values


def _time_ms(text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)
    return int(number * 1_000) if abs(number) < _SECONDS_BELOW else int(number)


def read_files(paths: Sequence[Path], reading: ColumnReading) -> TableColumns:
    """Read files of the same columns one after the other; a column "file" is added: the name up to its first dot.

    Raises:
        InputFileError: A file cannot be read, or has other columns than the first.
    """
    cells: dict[str, list[str]] = {}
    places: list[tuple[str, int]] = []
    for path in paths:
        part = read_columns(path, reading)
        part.cells.setdefault("file", [path.name.split(".")[0]] * len(part))
        if cells and part.cells.keys() != cells.keys():
            raise InputFileError(
                f"{path} has the columns {', '.join(part.cells)}, {paths[0]} {', '.join(cells)}; "
                "files read together must have the same: narrow the pattern in [source]"
            )
        for name, values in part.cells.items():
            cells.setdefault(name, []).extend(values)
        places += part.places
    return TableColumns(cells, places)


def read_columns(path: Path, reading: ColumnReading) -> TableColumns:
    """Read one file.

    JSON is a list of objects, one object a line, or an object of lists of [text, label] pairs, whose keys become the column
    "part" (as CLINC150 comes).

    Raises:
        InputFileError: Missing, empty, damaged, or a row has another number of cells than there are columns.
    """
    raw = bytes_of(path)
    if raw[:4] == _PARQUET_MAGIC:
        return _parquet(path)
    try:
        text = raw.decode(reading.encoding)
    except UnicodeDecodeError as err:
        line = raw.count(b"\n", 0, err.start) + 1
        raise InputFileError(
            f"{path}, line {line}: not {reading.encoding}: {err.reason}. Set encoding in [source.reading]"
        ) from err
    if ".json" in path.name:
        return _json(path, text)
    return _delimited(path, text, reading)


def bytes_of(path: Path) -> bytes:
    """Return what a file holds, unpacked if it is a gzip.

    Raises:
        InputFileError: Missing, empty or damaged.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == _GZIP_MAGIC else raw
    except OSError as err:
        raise InputFileError(f"cannot read {path}: {err.strerror or err}. Name a CSV, TSV, JSON or Parquet file") from err
    except (EOFError, zlib.error) as err:
        raise InputFileError(f"{path}: the gzip stream ends too early or is damaged ({err}). Get the whole file again") from err
    if not raw:
        raise InputFileError(f"{path} is empty (0 bytes); was its download cut off?")
    return raw


def _delimited(path: Path, text: str, reading: ColumnReading) -> TableColumns:
    csv.field_size_limit(_FIELD_LIMIT)
    dialect: dict[str, Any] = {"delimiter": reading.delimiter or ("\t" if ".tsv" in path.name else ",")}
    dialect |= {"quotechar": reading.quote} if reading.quote else {"quoting": csv.QUOTE_NONE}
    rows = csv.reader(io.StringIO(text, newline=""), **dialect)
    names = [name.strip() for name in next(rows, [])] if reading.header else list(reading.columns)
    if len(set(names)) != len(names) or not names:
        raise InputFileError(
            f"{path}: its columns are {names}: there must be some, each once. Correct its header, or set header and columns in "
            "[source.reading]"
        )
    lines: list[int] = []
    whole = list(_whole_rows(path, rows, len(names), lines))
    cells = {name: [row[place].strip() for row in whole] for place, name in enumerate(names)}
    return TableColumns(cells, [(str(path), line) for line in lines])


def _whole_rows(path: Path, rows: Any, width: int, lines: list[int]) -> Iterator[list[str]]:  # noqa: ANN401  # csv has no name for it
    line = rows.line_num + 1
    try:
        for row in rows:
            if row:
                if len(row) != width:
                    raise InputFileError(
                        f"{path}, line {line}: the row has {len(row)} cells, the file {width} columns. Correct the row, or "
                        "delimiter, quote and columns in [source.reading]"
                    )
                lines.append(line)
                yield row
            line = rows.line_num + 1
    except csv.Error as err:
        raise InputFileError(f"{path}, line {line}: not CSV: {err}. Set quote and delimiter in [source.reading]") from err


def _json(path: Path, text: str) -> TableColumns:
    try:
        document = json.loads(text) if text.lstrip()[:1] == "[" or "\n{" not in text.rstrip() else None
        rows: Any = [json.loads(line) for line in text.split("\n") if line.strip()] if document is None else document
    except json.JSONDecodeError as err:
        raise InputFileError(f"{path}, line {err.lineno}, column {err.colno}: not JSON: {err.msg}. Correct the file") from err
    if isinstance(rows, dict):
        rows = [{"text": pair[0], "label": pair[1], "part": part} for part, pairs in rows.items() for pair in pairs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = {name: [_cell(row.get(name)) for row in rows] for name in names}
    return TableColumns(cells, [(str(path), number) for number in range(1, len(rows) + 1)])


def _parquet(path: Path) -> TableColumns:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as err:
        raise InputFileError(f'{path} is a Parquet file and pyarrow is not installed. Run: pip install "millrace[data]"') from err
    try:
        table = parquet.read_table(path)
    except ArrowInvalid as err:
        raise InputFileError(f"{path} is no whole Parquet file: {err}. Get it again") from err
    cells = {str(name): [_cell(value) for value in table[name].to_pylist()] for name in table.column_names}
    return TableColumns(cells, [(str(path), number) for number in range(1, table.num_rows + 1)])


def _cell(value: object) -> str:
    return "" if value is None else str(value)
