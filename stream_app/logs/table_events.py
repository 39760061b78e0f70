"""Convert Arrow columns of an event table (stream_app/logs/event_table.py) to the arrays of the feature engine."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.errors import InputFileError
from stream_app.events import SOURCE_TOPICS
from stream_app.features.columns.table_columns import CODED, Coded, EventTableColumns, Texts
from stream_app.logs.parquet_parts import arrow

# Columns to read, and those of them that are read as dictionaries.
DICTIONARIES: Final = ("topic", *(name for name in CODED if not name.startswith("line_")))
COLUMNS: Final = (
    "time_ms", "event_id", "price", "position", "dwell_ms", "items_shown", "amount", "lines", *DICTIONARIES,
)  # fmt: skip


def events_of(batch: Any) -> EventTableColumns:  # noqa: ANN401 (a pyarrow record batch)
    """Convert the COLUMNS of rows that are all events; each column has one chunk."""
    coded = {name: _coded(batch.column(name)) for name in DICTIONARIES}
    lines, has_lines = batch.column("lines"), known(batch.column("lines"))
    first, counts = _lists(lines)
    of_lines = lines.values
    quantities = np.concatenate(([0], np.cumsum(_numbers(of_lines.field("quantity"), np.int64))))
    at, first_lines = np.flatnonzero(has_lines), first[has_lines]
    for name in ("item", "category"):
        coded[f"line_{name}"] = _spread(of_lines.field(name).take(arrow().array(first_lines)), at, len(counts))
    line_price = np.zeros(len(counts), np.float64)
    line_price[at] = _numbers(of_lines.field("unit_price"), np.float64)[first_lines]
    topic = coded.pop("topic")
    numbers: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {
        "price": _numbers(batch.column("price"), np.float64),
        "position": _numbers(batch.column("position"), np.int64),
        "dwell_ms": _numbers(batch.column("dwell_ms"), np.int64),
        "shown": _lists(batch.column("items_shown"))[1],
        "amount": _numbers(batch.column("amount"), np.float64),
        "line_price": line_price,
        "lines": counts,
        "quantity": quantities[first + counts] - quantities[first],
    }
    numbers_of = {text: number for number, text in enumerate(SOURCE_TOPICS)}  # the dictionary may hold further, unused topics
    topics = np.array([numbers_of.get(text, -1) for text in topic.texts.listed()], np.int64)[topic.codes]
    times = _numbers(batch.column("time_ms"), np.int64)
    return EventTableColumns(times, topics, _texts(batch.column("event_id")), coded, numbers)


def identifiers(batch: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the identifying columns of feature files, from rows that also have `partition` and `offset`."""
    text = arrow().string()
    return {
        "event_id": batch.column("event_id"),
        "topic": batch.column("topic").cast(text),
        "user": batch.column("user").cast(text),
        "event_time_ms": batch.column("time_ms"),
        "partition": batch.column("partition"),
        "offset": batch.column("offset"),
    }


def known(column: Any) -> NDArray[np.bool_]:  # noqa: ANN401
    """Return which rows of a column are not null, (B,) bool."""
    valid: NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _numbers(column: Any, dtype: type[Any]) -> NDArray[Any]:  # noqa: ANN401
    filled = column.fill_null(0) if column.null_count else column
    return np.ascontiguousarray(filled.to_numpy(zero_copy_only=False), dtype)


def _lists(column: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # noqa: ANN401
    """Return the start of each row's list in the column's `values`, and its length; a null list has length 0."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    counts = np.diff(offsets)
    counts[~known(column)] = 0
    return offsets[:-1], counts


def _texts(column: Any) -> Texts:  # noqa: ANN401
    """Return the texts of a column of strings without nulls."""
    if not len(column):
        return Texts(np.zeros(0, np.uint8), np.zeros(0, np.int64))
    _, offsets, data = column.buffers()
    edges = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    text = np.frombuffer(data, np.uint8)[edges[0] : edges[-1]] if data is not None else np.zeros(0, np.uint8)
    return Texts(text, edges[1:] - edges[0])


def _coded(column: Any) -> Coded:  # noqa: ANN401
    codes = column.indices
    filled = codes.fill_null(-1) if codes.null_count else codes
    numbers = np.ascontiguousarray(filled.to_numpy(zero_copy_only=False), np.int32)
    if len(numbers) and not -1 <= numbers.min() <= numbers.max() < max(1, len(column.dictionary)):
        raise InputFileError(
            f"the table names text {numbers.max()} of a dictionary of {len(column.dictionary)}: it is damaged. Sort the log again"
        )
    return Coded(numbers, _texts(column.dictionary))


def _spread(texts: Any, at: NDArray[np.intp], count: int) -> Coded:  # noqa: ANN401
    """Return codes of `count` rows: the texts at the rows `at`, -1 elsewhere."""
    few = _coded(texts.dictionary_encode())
    codes = np.full(count, -1, np.int32)
    codes[at] = few.codes
    return Coded(codes, few.texts)
