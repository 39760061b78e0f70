"""Histories of items from files of three formats, as one flat array for `training.data.sources.sequences`.

The file decides the format:

    lines   .txt: one user a line: the user and the items in order of time, separated by spaces
    lists   Parquet: one history a row, `items` the column of lists
    rows    CSV, TSV, JSON or Parquet: one touch a row, with the columns `user`, `item` and `time`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_app.errors import InputFileError
from training.data.parsing.columns import ColumnReading, bytes_of, read_files, times_of

Array = NDArray[Any]


class SequencePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A [source] section of kind "sequences".

    Attributes:
        kind: "sequences".
        protocol: `leave_one_out`: the last item of each history is a test target, the one before a validation target, the rest
            train; a history of fewer than three items is for training only. `sessions`: whole histories are for training,
            validation or test, in order of their end, or the test rows have a file of their own. `time`: rows are split by the
            time of their target.
        length: number of newest items of a prefix that a row has, L.
        train: name of the file of histories in a folder.
        test: for `sessions`: name of the Parquet file of test rows beside it; "" = the newest histories are the test.
        user, item, time: columns of touches; time "" = the file is in order of time.
        items: column with the list of items of a history.
        prefix, target: columns of test rows: a list of items, and the next one.
        validation: share of the histories (`sessions`) or touches (`time`) for validation.
        test_share: share for the test.
        reading: format of a CSV file.
    """

    kind: str = "sequences"
    protocol: Literal["leave_one_out", "sessions", "time"]
    length: int = 50
    train: str = ""
    test: str = ""
    user: str = "user"
    item: str = "item"
    time: str = ""
    items: str = "items"
    prefix: str = "prefix"
    target: str = "target"
    validation: float = 0.05
    test_share: float = 0.1
    reading: ColumnReading = ColumnReading()


@dataclass(frozen=True)
class Histories:
    """H histories of K touches in all.

    Attributes:
        ids: (K,) item ids, numbers or texts, history after history, oldest first.
        starts: (H + 1,) first position of each history; the last is K.
        time_ms: (K,) int64; zeros where unknown.
        targets: (T,) positions in `ids` of the targets of test rows from a file; each ends a history that is one test row.
    """

    ids: Array
    starts: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    targets: NDArray[np.int64]


def histories_from(path: Path, plan: SequencePlan) -> Histories:
    """Read a file, or the files that the plan names in a folder.

    Raises:
        InputFileError: A file is missing, damaged, or lacks a column.
    """
    file = _file(path, plan.train, "train") if path.is_dir() else path
    if ".txt" in file.name:
        return _from_lines(file)
    lists = _lists(file, (plan.items,))
    if lists is None:
        return _from_rows(file, plan)
    ids, lengths = lists[plan.items]
    if not plan.test:
        return _joined([ids], [lengths], np.zeros(0, np.int64))
    test = _file(path if path.is_dir() else path.parent, plan.test, "test")
    test_rows = _lists(test, (plan.prefix, plan.target))
    if test_rows is None:
        raise InputFileError(f"{test} has no column {plan.prefix!r} of lists. Name the columns prefix and target in [source]")
    (prefixes, sizes), (targets, _) = test_rows[plan.prefix], test_rows[plan.target]
    # A test row is a history whose last item is the target.
    places = np.cumsum(sizes + 1) - 1
    rows = np.zeros(len(prefixes) + len(targets), np.result_type(prefixes, targets))
    is_target = np.zeros(len(rows), np.bool_)
    is_target[places] = True
    rows[is_target], rows[~is_target] = targets, prefixes
    return _joined([ids, rows], [lengths, sizes + 1], places + len(ids))


def _file(folder: Path, name: str, key: str) -> Path:
    file = folder / name
    if not name or not file.is_file():
        names = ", ".join(sorted(each.name for each in folder.iterdir())[:20])
        raise InputFileError(
            f'{folder} has no file {name!r}, only {names}. Give {key} = "<file>" in [source], or the file itself'
        )
    return file


def _joined(ids: Sequence[Array], lengths: Sequence[Array], targets: Array) -> Histories:
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    return Histories(np.concatenate(ids), starts, np.zeros(starts[-1], np.int64), targets)


def _from_lines(file: Path) -> Histories:
    try:
        lines = [line.split() for line in bytes_of(file).decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as err:
        raise InputFileError(f"{file}, byte {err.start}: not UTF-8: {err.reason}. Convert it, or name a Parquet file") from err
    for number, line in enumerate(lines, 1):
        if len(line) == 1:
            raise InputFileError(f"{file}, line {number}: {line[0]!r} alone. Write the user and the items, separated by spaces")
    lines = [line[1:] for line in lines if line]
    if not lines:
        raise InputFileError(f"{file} holds no history. Write one user a line: the user and the items, separated by spaces")
    ids = np.array([item for line in lines for item in line])
    return _joined([ids], [np.array([len(line) for line in lines])], np.zeros(0, np.int64))


def _from_rows(file: Path, plan: SequencePlan) -> Histories:
    columns = read_files([file], plan.reading)
    time_ms = times_of(columns, plan.time)
    _, user = np.unique(np.array(columns[plan.user]), return_inverse=True)
    order = np.lexsort((time_ms, user))  # stable: equal times stay in order of the file
    starts = np.concatenate([[0], np.cumsum(np.bincount(user))]).astype(np.int64)
    return Histories(np.array(columns[plan.item])[order], starts, time_ms[order], np.zeros(0, np.int64))


def _lists(file: Path, names: Sequence[str]) -> dict[str, tuple[Array, NDArray[np.int64]]] | None:
    """Return (values, length of each row) for each column of a Parquet file, or None if the first has no lists."""
    if not file.name.endswith(".parquet"):
        return None
    from pyarrow import parquet, types

    table = parquet.read_table(file)
    is_list = {name for name in table.column_names if types.is_list(kind := table[name].type) or types.is_large_list(kind)}
    if names[0] not in is_list:
        return None
    lists: dict[str, tuple[Array, NDArray[np.int64]]] = {}
    for name in names:
        if name not in table.column_names:
            raise InputFileError(f"{file} has the columns {', '.join(table.column_names)}, not {name!r}. Correct it in [source]")
        column = table[name].combine_chunks()
        if column.null_count:
            raise InputFileError(
                f"{file}, column {name!r}: {column.null_count} of {len(column)} rows are null. Leave those rows out"
            )
        if name in is_list:
            lists[name] = (_numpy(column.flatten()), _numpy(column.value_lengths()).astype(np.int64))
        else:
            lists[name] = (_numpy(column), np.ones(len(column), np.int64))
    return lists


def _numpy(column: Any) -> Array:  # noqa: ANN401  # pyarrow has no types
    values: Array = column.to_numpy(zero_copy_only=False)
    return values.astype(str) if values.dtype == object else values
