"""The first rows of a log as columns, without a mapping: CSV, JSON lines, Parquet; plain, gzip, Zstandard.

Values are texts (CSV), JSON values, or Parquet values with timestamps as epoch milliseconds. Nested JSON becomes columns
`outer.inner`; of a list of objects the first object counts, of another list its length. A line of `millrace simulate --to` or
`import --to` becomes its event, with the topic as a column. Why the CSV reader is not DuckDB's: docs/adr/0024.
"""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from stream_app.errors import ConfigError, InputFileError
from stream_app.logs.compression import DAMAGE, decompressed

_CELLS: Final = 4_000_000  # by default: some hundred MB of Python objects, some seconds
_FEWEST_ROWS: Final = 50_000
_SNIFFED: Final = 8_192  # characters
_CELL_LIMIT: Final = 1 << 20  # characters of one cell; csv's own limit, 131,072, is less than a long text has
_REPORT_EVERY: Final = 10_000


@dataclass(frozen=True, slots=True)
class ColumnTable:
    """Columns of the first rows of a file.

    Attributes:
        names: Of the columns.
        columns: One list of values each.
        headless: The file names no columns: the names are c1, c2, ...
        more: The file has further rows.
        times: Columns that the file declares as times, in ms.
    """

    names: list[str]
    columns: list[list[Any]]
    headless: bool = False
    more: bool = False
    times: frozenset[str] = frozenset()

    @property
    def rows(self) -> int:
        """How many rows were read."""
        return len(self.columns[0]) if self.columns else 0


def read_table(
    path: Path,
    most_rows: int | None = None,
    on_progress: Callable[[int], None] = lambda _rows: None,
    names: Sequence[str] = (),
    is_log: bool = False,
) -> ColumnTable:
    """Read a file's first rows.

    Args:
        path: The file; its first bytes tell its format.
        most_rows: Rows to read; None: about four million cells, at least 50,000 rows.
        on_progress: Called now and then with the number of rows so far.
        names: The columns' names, of a CSV file without a header.
        is_log: Whether it is a log of JSON lines, of Millrace or by a mapping: a line that is no object is left out then; else it
            is an error.

    Raises:
        InputFileError: It is missing, empty or without a row, or none of these formats.
        ConfigError: Parquet without pyarrow.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as err:
        raise InputFileError(f"cannot read {path}: {err.strerror}. Name a CSV, JSON lines or Parquet file") from err
    if not magic:
        raise InputFileError(f"{path} is empty (0 bytes); was its download cut off?")
    if magic == b"PAR1":
        return _parquet(path, most_rows, on_progress)
    try:
        with _opened(path) as text:
            head = text.read(_SNIFFED)
        if is_log or head.lstrip().startswith("{"):
            with _opened(path, newline="\n") as text:
                return _json_lines(path, text, most_rows, on_progress, is_log)
        with _opened(path) as text:
            return _csv(path, _delimiter(head), text, most_rows, on_progress, names)
    except DAMAGE as err:
        raise InputFileError(f"{path} is cut off or damaged: {err}. Get the whole file") from err


@contextmanager
def _opened(path: Path, newline: str = "") -> Iterator[TextIO]:
    with path.open("rb") as raw:
        yield io.TextIOWrapper(decompressed(raw), "utf-8-sig", errors="replace", newline=newline)


def _delimiter(head: str) -> str:
    try:
        return csv.Sniffer().sniff(head[: head.rfind("\n") + 1] or head, delimiters=",;\t|").delimiter
    except csv.Error:
        return ","


def _bound(most_rows: int | None, width: int) -> int:
    return most_rows or max(_FEWEST_ROWS, _CELLS // max(1, width))


def _csv(
    path: Path,
    delimiter: str,
    lines: Iterable[str],
    most_rows: int | None,
    on_progress: Callable[[int], None],
    mapped_names: Sequence[str],
) -> ColumnTable:
    csv.field_size_limit(_CELL_LIMIT)
    rows = _csv_rows(path, lines, delimiter)
    first = next(rows, [])
    second = next(rows, None)
    if len(first) < 2:
        raise InputFileError(
            f"{path} has one column when read as CSV (its first line begins {first[0][:60] if first else ''!r}); is it CSV, JSON "
            "lines or Parquet? Try --mapping, whose [source] names delimiter and encoding"
        )
    if mapped_names and len(mapped_names) != len(first):
        raise InputFileError(f"{path} has {len(first)} columns, the mapping names {len(mapped_names)}: {', '.join(mapped_names)}")
    headless = bool(mapped_names) or any(map(_is_number, first))  # no column is called 17
    numbered = list(mapped_names) or [f"c{number}" for number in range(1, len(first) + 1)]
    names = numbered if headless else _unique([name.strip() for name in first])
    columns: list[list[Any]] = [[] for _ in names]
    bound, count, more = _bound(most_rows, len(names)), 0, False
    for row in ([first] if headless else []) + ([second] if second else []):
        count += _append(columns, row)
    for row in rows:
        if count >= bound:
            more = True
            break
        count += _append(columns, row)
        if count % _REPORT_EVERY == 0:
            on_progress(count)
    if not count:
        raise InputFileError(f"{path} has a header and no rows")
    return ColumnTable(names, columns, headless and not mapped_names, more)


def _csv_rows(path: Path, lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Yield the rows that are not empty. A quote that does not close costs its own line; reading goes on at the next line."""
    source, again, taken = enumerate(lines, 1), deque[tuple[int, str]](), list[tuple[int, str]]()

    def reader() -> Iterator[list[str]]:
        def next_lines() -> Iterator[str]:
            while (line := again.popleft() if again else next(source, None)) is not None:
                taken.append(line)
                yield line[1]

        return csv.reader(next_lines(), delimiter=delimiter, quotechar='"')

    rows, width = reader(), 0
    while True:
        taken.clear()
        try:
            row = next(rows, None)
        except csv.Error as err:
            if len(taken) == 1:
                raise InputFileError(f"{path}, line {taken[0][0]}: not CSV: {err}") from err
            row = []
        if row is None:
            return
        odd = len(taken) > 1 and sum(line.count('"') for _, line in taken) % 2
        if len(taken) > 1 and width and (odd or not width <= len(row) <= width + 1):
            again.extendleft(reversed(taken[1:]))
            rows = reader()
        elif row:
            width = width or len(row)
            yield row


def _append(columns: list[list[Any]], row: list[str]) -> int:
    """Append a row to the columns if it has as many cells, but for an empty one after a trailing delimiter; return 1 or 0."""
    if len(row) == len(columns) + 1 and not row[-1]:
        row.pop()
    if len(row) != len(columns):
        return 0
    for column, value in zip(columns, row, strict=True):
        column.append(value)
    return 1


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _unique(names: list[str]) -> list[str]:
    return [f"{name}_{names[:place].count(name) + 1}" if name in names[:place] else name for place, name in enumerate(names)]


def _json_lines(
    path: Path, lines: Iterable[str], most_rows: int | None, on_progress: Callable[[int], None], is_log: bool = False
) -> ColumnTable:
    columns: dict[str, list[Any]] = {}
    count, more = 0, False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if count >= _bound(most_rows, len(columns)):
            more = True
            break
        row = _object(path, number, line, is_log)
        if row is None:
            continue
        for name, value in _flat(_event(row)):
            column = columns.setdefault(name, [])
            column.extend([None] * (count - len(column)))
            if len(column) == count:
                column.append(value)
        count += 1
        if count % _REPORT_EVERY == 0:
            on_progress(count)
    if not columns:
        raise InputFileError(f"{path} has {count} JSON objects and no field in any of them")
    for column in columns.values():
        column.extend([None] * (count - len(column)))
    return ColumnTable(list(columns), list(columns.values()), more=more)


def _object(path: Path, number: int, line: str, is_log: bool) -> dict[str, Any] | None:
    """Decode one line; None for a line of a log that is no object (the checks of the log report it)."""
    try:
        row = json.loads(line)
    except ValueError as err:
        if is_log:
            return None
        raise InputFileError(f"{path}, line {number} is no JSON: {err}. One object a line is wanted") from err
    if isinstance(row, dict):
        return row
    if is_log:
        return None
    raise InputFileError(f"{path}, line {number} is JSON but no object; one object a line is wanted")


def _event(row: dict[str, Any]) -> dict[str, Any]:
    """Return the event of a record line of Millrace, any other object as it is."""
    if row.keys() == {"topic", "key", "value", "time_ms"} and isinstance(row["value"], str):
        try:
            event = json.loads(row["value"])
        except ValueError:
            return {"topic": row["topic"]}  # a malformed record of the simulator
        if isinstance(event, dict):
            return {"topic": row["topic"], **event}
    return row


def _flat(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}.count", len(value)
            if value and isinstance(value[0], dict):
                yield from _flat(value[0], f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _parquet(path: Path, most_rows: int | None, on_progress: Callable[[int], None]) -> ColumnTable:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as err:
        raise ConfigError(
            f"{path} is a Parquet file, and reading it needs pyarrow: install the extra with `pip install 'millrace[data]'`"
        ) from err
    try:
        file: Any = parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as err:
        raise InputFileError(f"{path} is no readable Parquet file: {err}. Was it cut off? Get it again") from err
    with file:
        names = list(file.schema_arrow.names)
        temporal = {n for n in names if pa.types.is_timestamp(t := file.schema_arrow.field(n).type) or pa.types.is_date(t)}
        columns: list[list[Any]] = [[] for _ in names]
        bound, count = _bound(most_rows, len(names)), 0
        for batch in file.iter_batches(batch_size=_REPORT_EVERY, use_threads=False):
            for column, name in zip(columns, names, strict=True):
                values = batch.column(batch.schema.get_field_index(name))
                if name in temporal:
                    values = values.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
                column.extend(values.to_pylist()[: bound - count])
            count = len(columns[0]) if columns else 0
            on_progress(count)
            if count >= bound:
                break
        if not count:
            raise InputFileError(f"{path} has {len(names)} columns and no rows")
        return ColumnTable(names, columns, more=count < file.metadata.num_rows, times=frozenset(temporal))
