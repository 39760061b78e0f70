"""A log's columns as they stand in the file, for a first look without a mapping: CSV, JSON lines, Parquet; gzip, Zstandard.

Values are texts (CSV), what JSON holds, or what Parquet holds, with timestamps as epoch milliseconds. Nested JSON becomes
columns `outer.inner`; of a list of objects the first one counts, of another list its length. A line that `millrace simulate
--to` or `import --to` wrote is its event, with the topic as a column.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stream_app.errors import ConfigError, InputFileError
from stream_app.logs.compression import DAMAGE, decompressed

__all__ = ["Table", "read_table"]

_CELLS: Final = 4_000_000  # by default: some hundred MB of Python objects, some seconds
_FEWEST_ROWS: Final = 50_000
_SNIFFED: Final = 65_536  # characters
_REPORT_EVERY: Final = 10_000


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of the first rows of a file. `headless`: the names are ours (c1, c2, ...); `more`: the file has further rows."""

    names: list[str]
    columns: list[list[Any]]
    headless: bool = False
    more: bool = False
    times: frozenset[str] = frozenset()  # columns that the file itself declares to be times, in ms

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
) -> Table:
    """Read a file's first rows.

    Args:
        path: The file; its kind goes by its first bytes.
        most_rows: How many; None: about four million cells, at least 50,000 rows.
        on_progress: Called now and then with the number of rows so far.
        names: The columns' names, of a CSV file that is known to have no header.
        is_log: Whether it is known to be a log of JSON lines, of Millrace or by a mapping: a line that is none is left out then,
            not an error.

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
        with path.open("rb") as raw:
            text = io.TextIOWrapper(decompressed(raw), "utf-8-sig", errors="replace", newline="")
            head = text.read(_SNIFFED)
            lines = _lines(head, text)
            if is_log or head.lstrip().startswith("{"):
                return _json_lines(path, lines, most_rows, on_progress, is_log)
            return _csv(path, head, lines, most_rows, on_progress, names)
    except DAMAGE as err:
        raise InputFileError(f"{path} is cut off or damaged: {err}. Get the whole file") from err


def _lines(head: str, rest: Iterable[str]) -> Iterator[str]:
    """The head's lines, joined to the rest where the head was cut within one."""
    pieces = head.splitlines(keepends=True)
    cut = pieces.pop() if pieces and not pieces[-1].endswith("\n") else ""
    yield from pieces
    for line in rest:
        yield cut + line
        cut = ""
    if cut:
        yield cut


def _bound(most_rows: int | None, width: int) -> int:
    return most_rows or max(_FEWEST_ROWS, _CELLS // max(1, width))


def _csv(
    path: Path,
    head: str,
    lines: Iterator[str],
    most_rows: int | None,
    on_progress: Callable[[int], None],
    given: Sequence[str],
) -> Table:
    whole = head[: head.rfind("\n") + 1] or head
    try:
        dialect: Any = csv.Sniffer().sniff(whole[:8_192], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    reader = csv.reader(lines, delimiter=dialect.delimiter, quotechar='"')
    rows = (row for row in reader if row)
    first = next(rows, [])
    second = next(rows, None)
    if len(first) < 2:
        raise InputFileError(
            f"{path} has one column when read as CSV (its first line begins {first[0][:60] if first else ''!r}); is it CSV, JSON "
            "lines or Parquet? Try --mapping, whose [source] names delimiter and encoding"
        )
    if given and len(given) != len(first):
        raise InputFileError(f"{path} has {len(first)} columns, the mapping names {len(given)}: {', '.join(given)}")
    headless = bool(given) or any(map(_is_number, first))  # no column is called 17
    ours = list(given) or [f"c{number}" for number in range(1, len(first) + 1)]
    names = ours if headless else _unique([name.strip() for name in first])
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
    return Table(names, columns, headless and not given, more)


def _append(columns: list[list[Any]], row: list[str]) -> int:
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
    path: Path, lines: Iterator[str], most_rows: int | None, on_progress: Callable[[int], None], is_log: bool = False
) -> Table:
    found: dict[str, list[Any]] = {}
    count, more = 0, False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if count >= _bound(most_rows, len(found)):
            more = True
            break
        row = _object(path, number, line, is_log)
        if row is None:
            continue
        for name, value in _flat(_event(row)):
            column = found.setdefault(name, [])
            column.extend([None] * (count - len(column)))
            if len(column) == count:
                column.append(value)
        count += 1
        if count % _REPORT_EVERY == 0:
            on_progress(count)
    if not found:
        raise InputFileError(f"{path} has {count} JSON objects and no field in any of them")
    for column in found.values():
        column.extend([None] * (count - len(column)))
    return Table(list(found), list(found.values()), more=more)


def _object(path: Path, number: int, line: str, is_log: bool) -> dict[str, Any] | None:
    """Read one line; None: a log has a line that is none, and is told of it elsewhere."""
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
    """Take the event out of a line that Millrace wrote."""
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


def _parquet(path: Path, most_rows: int | None, on_progress: Callable[[int], None]) -> Table:
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
        return Table(names, columns, more=count < file.metadata.num_rows, times=frozenset(temporal))
