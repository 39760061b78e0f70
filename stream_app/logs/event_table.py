"""Read event tables: a log as one Parquet file, its records in canonical order with the decoded events as columns.

`millrace sort` writes event tables (event_table_writer.py). Read as records, a table equals the log it was made from, to the bit.
Read as columns, it needs no JSON decoding: a replay passes Arrow's columns to the feature engine.

A row has all fields of LogRecord, and the fields of the event's type under their names in stream_app.events (`event_time_ms` is
`time_ms`). Event fields are null where the type lacks the field, and where the record is a label or not an event. The replay, not
the table, checks whether an event is too far ahead of its timestamp.
"""

from __future__ import annotations

import typing
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any, Final, Literal, get_origin

import msgspec

from stream_app.codec.decode import EVENT_TYPES
from stream_app.errors import InputFileError
from stream_app.logs.answer_tables import arrow_type
from stream_app.logs.log_records import LogRecord
from stream_app.logs.parquet_parts import arrow

VERSION_KEY: Final = b"millrace.log"
VERSION: Final = b"1"
SOURCES_KEY: Final = b"millrace.sources"  # JSON: name and unit ("line" or "row") of each file that was sorted into it

_MAGIC: Final = b"PAR1"
_RECORD: Final = LogRecord.__struct_fields__
_NEVER_NULL: Final = frozenset({"time_ms", "place", "topic", "partition", "offset", "timestamp", "headers"})
_READ_ROWS: Final = 4_096
_ALL_ROWS: Final = 1 << 60
_MOST_BYTES: Final = (1 << 31) - 1  # Arrow's limit: offsets have 32 bits
_AGAIN: Final = "Make it again with `millrace sort`"


def _event_fields() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for kind in EVENT_TYPES.values():
        hints = typing.get_type_hints(kind)
        fields |= {name: hints[name] for name in kind.__struct_fields__ if name != "event_time_ms"}
    return fields


EVENT_FIELDS: Final[Mapping[str, Any]] = _event_fields()  # name -> type, of all types of events
_TEXTS: Final = tuple(name for name, kind in EVENT_FIELDS.items() if kind is str or get_origin(kind) is Literal)
# Columns whose texts repeat. An event's own identifier does not.
DICTIONARIES: Final = ("topic", *(name for name in _TEXTS if name != "event_id"))

_sources: Final = msgspec.json.Decoder(tuple[tuple[str, str], ...]).decode


def event_table_schema(sources: Sequence[tuple[str, str]]) -> Any:  # noqa: ANN401 (a pyarrow schema)
    """Return the columns.

    Args:
        sources: Name and unit of each file of the log.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    pa = arrow()
    record = {
        "time_ms": pa.int64(), "place": pa.list_(pa.int64(), 3), "topic": pa.string(), "partition": pa.int32(),
        "offset": pa.int64(), "timestamp": pa.int64(), "key": pa.binary(), "value": pa.binary(),
        "headers": pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())])),
    }  # fmt: skip
    columns = record | {name: arrow_type(pa, hint) for name, hint in EVENT_FIELDS.items()}
    return pa.schema(list(columns.items()), {VERSION_KEY: VERSION, SOURCES_KEY: msgspec.json.encode(sources)})


def is_parquet(path: Path) -> bool:
    """Whether a file begins with Parquet's magic bytes; False for an unreadable file."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def is_event_table(path: Path) -> bool:
    """Whether a file is an undamaged event table, whatever its name.

    Raises:
        ConfigError: The file is Parquet, and pyarrow is not installed.
    """
    if not is_parquet(path):
        return False
    try:
        with EventTable(path):
            return True
    except InputFileError:
        return False


class EventTable(AbstractContextManager["EventTable"]):
    """An open event table; a context manager.

    Attributes:
        row_groups: Number of row groups.
        rows: Number of records.
        sources: Name and unit ("line" or "row") of each file that was sorted into it.

    Raises:
        InputFileError: The file is not an event table, is truncated, or has the columns of another version.
        ConfigError: pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[tuple[str, ...], Any] = {}  # columns read as dictionaries -> the open file
        file = self._opened(())
        self.row_groups: int = file.metadata.num_row_groups
        self.rows: int = file.metadata.num_rows
        try:
            self.sources = self._checked(file.schema_arrow)
        except InputFileError:
            self.close()
            raise

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def ends(self) -> list[int]:
        """Return the row number at which each row group ends."""
        metadata = self._opened(()).metadata
        return list(accumulate(metadata.row_group(group).num_rows for group in range(self.row_groups)))

    def batch(self, row_group: int, columns: Sequence[str], dictionary_columns: Sequence[str] = ()) -> Any:  # noqa: ANN401
        """Read one row group.

        Args:
            row_group: Number of the row group.
            columns: Columns to read, in this order.
            dictionary_columns: Columns of DICTIONARIES to return as DictionaryArray.

        Returns:
            A pyarrow.RecordBatch: each column is one array.

        Raises:
            InputFileError: The file is damaged there, or a column has more than an array holds.
        """
        file = self._opened(tuple(sorted(dictionary_columns)))
        with self._damage(f"in row group {row_group}"):
            table = file.read_row_group(row_group, columns=list(columns), use_threads=False)
            arrays = [self._one_array(row_group, name, table.column(name)) for name in columns]
            batch = arrow().RecordBatch.from_arrays(arrays, names=list(columns))
            _refuse_nulls(batch)
            self._refuse_fewer(row_group, len(batch))
        return batch

    def records(self, first: int = 0, last: int = _ALL_ROWS) -> Iterator[LogRecord]:
        """Yield the records of the rows [first, last), in canonical order.

        Raises:
            InputFileError: The file is damaged.
        """
        start = 0
        for group, end in enumerate(self.ends()):
            if first < end and start < last:
                yield from self._records(group, max(0, first - start), min(last, end) - start)
            start = end

    def select(self, row_group: int, rows: Sequence[int]) -> Iterator[LogRecord]:
        """Yield the records at ascending row numbers of a row group, in bounded memory.

        Raises:
            InputFileError: The file is damaged there.
        """
        at = 0
        for row, batch in self._record_batches(row_group):
            until = bisect_left(rows, row + len(batch), at)
            if until > at:
                with self._damage(f"in row group {row_group}"):
                    records = _records_of(batch.take(arrow().array([number - row for number in rows[at:until]], "int64")))
                yield from records
            at = until
            if at == len(rows):
                return

    def _records(self, group: int, first: int, last: int) -> Iterator[LogRecord]:
        for row, batch in self._record_batches(group):
            begin = min(len(batch), max(0, first - row))
            with self._damage(f"in row group {group}"):
                records = _records_of(batch.slice(begin, max(0, last - row - begin)))
            yield from records
            if row + len(batch) >= last:
                return

    def _record_batches(self, group: int) -> Iterator[tuple[int, Any]]:
        """Yield the columns of LogRecord in batches of rows, each with the number of rows of the group before it."""
        file, row = self._opened(()), 0
        with self._damage(f"in row group {group}"):
            batches = file.iter_batches(_READ_ROWS, row_groups=[group], columns=list(_RECORD), use_threads=False)
        while True:
            with self._damage(f"in row group {group}"):
                batch = next(batches, None)
                if batch is None:
                    self._refuse_fewer(group, row)
                    return
                _refuse_nulls(batch)
            yield row, batch
            row += len(batch)

    def _refuse_fewer(self, group: int, rows: int) -> None:
        expected = self._opened(()).metadata.row_group(group).num_rows
        if rows != expected:
            raise ValueError(f"{rows} rows, where {expected} are said to be")

    def _one_array(self, group: int, name: str, column: Any) -> Any:  # noqa: ANN401 (a pyarrow array of a chunked one)
        try:
            array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        except arrow().ArrowInvalid as err:
            raise InputFileError(
                f"{self._path}: column {name} of row group {group} is no single array (it has {column.nbytes} bytes, an array "
                f"at most {_MOST_BYTES}): {err}. {_AGAIN}, whose row groups are small"
            ) from err
        if arrow().types.is_dictionary(array.type):
            array.validate(full=True)  # page headers have no checksum: a code may exceed the dictionary
        return array

    def _opened(self, dictionary_columns: tuple[str, ...]) -> Any:  # noqa: ANN401 (a pyarrow.parquet.ParquetFile)
        if dictionary_columns not in self._files:
            arrow()
            from pyarrow import parquet

            known = self._files.get(())
            try:
                self._files[dictionary_columns] = parquet.ParquetFile(
                    self._path, metadata=known and known.metadata, read_dictionary=list(dictionary_columns),
                    page_checksum_verification=True,
                )  # fmt: skip
            except _errors() as err:
                raise InputFileError(f"{self._path} is no event table: {err}. Was it cut off? {_AGAIN}") from err
        return self._files[dictionary_columns]

    def _checked(self, schema: Any) -> tuple[tuple[str, str], ...]:  # noqa: ANN401 (a pyarrow schema)
        metadata = schema.metadata or {}
        if VERSION_KEY not in metadata:
            raise InputFileError(
                f"{self._path} is Parquet, but no event table: name a --mapping that says what its rows are, or {_AGAIN.lower()}"
            )
        version = metadata[VERSION_KEY].decode(errors="replace")
        if version != VERSION.decode():
            raise InputFileError(
                f"{self._path} is an event table of version {version}; this Millrace reads version {VERSION.decode()}. {_AGAIN}"
            )
        expected = event_table_schema(())
        other = [
            field.name for field in expected if field.name not in schema.names or schema.field(field.name).type != field.type
        ]
        if other:
            raise InputFileError(f"{self._path} lacks {', '.join(other)}, or has them of another type. {_AGAIN}")
        try:
            return _sources(metadata.get(SOURCES_KEY, b""))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            raise InputFileError(
                f"{self._path} does not say ({SOURCES_KEY.decode()}) which files it was made from: {err}. {_AGAIN}"
            ) from err

    @contextmanager
    def _damage(self, where: str) -> Iterator[None]:
        try:
            yield
        except _errors() as err:
            raise InputFileError(f"{self._path}: cannot be read {where}: {err}. Get the file again. {_AGAIN}") from err


def _errors() -> tuple[type[Exception], ...]:
    return (arrow().ArrowException, OSError, ValueError)  # texts of damaged pages raise UnicodeDecodeError, a ValueError


def _refuse_nulls(batch: Any) -> None:  # noqa: ANN401 (a pyarrow record batch)
    empty = [name for name in batch.schema.names if name in _NEVER_NULL and batch.column(name).null_count]
    if empty:
        raise ValueError(f"{', '.join(empty)} of a record is null")


def _records_of(batch: Any) -> list[LogRecord]:  # noqa: ANN401 (a pyarrow record batch)
    columns = {name: batch.column(batch.schema.get_field_index(name)) for name in _RECORD}
    places = columns.pop("place").flatten().to_pylist()
    headers = columns.pop("headers")
    header_lists = headers.to_pylist() if len(headers.flatten()) else repeat((), len(batch))
    rest = zip(*(column.to_pylist() for column in columns.values()), strict=True)
    at = zip(*[iter(places)] * 3, strict=True)
    return [
        LogRecord(time_ms, place, topic, partition, offset, timestamp, key, value, [(h["name"], h["value"]) for h in of_row])
        for (time_ms, topic, partition, offset, timestamp, key, value), place, of_row in zip(rest, at, header_lists, strict=True)
    ]
