"""Histories of items as training rows: the items so far, and the next one.

    [source]
    kind = "sequences"
    protocol = "leave_one_out"   # or "sessions", or "time"; see `training.data.parsing.histories.SequencePlan`
    length = 50

Every prefix of a history is one row, so a row never contains items after its target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.inputs import SequenceInputs
from model.tasks import Task
from stream_app.errors import ConfigError, ContractError
from training.data.dataset import SPLITS, Dataset, ItemTable
from training.data.parsing.histories import Histories, SequencePlan, histories_from
from training.data.parsing.section import read_plan
from training.data.splitting import by_share

_TASK: Final = "next_item"
# The metric of each protocol's published results.
_METRICS: Final = {"leave_one_out": "ndcg_at_10", "sessions": "mrr_at_20", "time": "ndcg_at_10"}
_MIN_TOUCHES: Final = 3  # touches: one input, one for validation, one for the test
_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))
_AT_ONCE: Final = 1 << 16  # rows whose sequences are gathered at once; bounds the memory of the indices

Array = NDArray[Any]


def dataset_from_sequences(path: Path, section: Mapping[str, Any], progress: Callable[[str], None] = lambda _: None) -> Dataset:
    """Read histories and make a row of each prefix; evaluation ranks all items.

    `path` is a file, or the folder of the files that `section`, a `SequencePlan`, names.

    Raises:
        ConfigError: The section is wrong.
        InputFileError: A file cannot be read.
        ContractError: The split leaves a part without rows.
    """
    plan = _plan(section)
    progress(f"reading histories from {path}")
    histories = histories_from(path, plan)
    values, items = np.unique(_as_numbers(histories.ids), return_inverse=True)
    place, owner, split = _rows(histories, plan)
    progress(f"making {len(place):,} rows of {len(histories.starts) - 1:,} histories of {len(values):,} items")
    counts = {name: int((split == code).sum()) for code, name in enumerate(SPLITS)}
    if not all(counts.values()):
        raise ContractError(
            f"task {_TASK!r}: {path} by protocol {plan.protocol!r} has rows {counts}. Operator action: give longer histories, or "
            "change protocol, validation or test_share in [source]."
        )
    return Dataset(
        inputs={"sequence": _sequences(items, histories.starts[owner], place, plan.length)},
        labels={_TASK: items[place].astype(np.int32)},
        split=split,
        segment=np.zeros(len(place), np.int8),
        time_ms=histories.time_ms[place],
        key=owner,
        tasks=(Task(name=_TASK, kind="retrieval", label=_TASK, metric=_METRICS[plan.protocol]),),
        spec=SequenceInputs(items=len(values), length=plan.length),
        table=ItemTable(
            [str(value) for value in values], np.arange(len(values), dtype=np.int32), np.zeros(len(values), np.int32)
        ),
    )


def _plan(section: Mapping[str, Any]) -> SequencePlan:
    plan = read_plan(section, SequencePlan)
    if plan.length < 1:
        raise ConfigError(f"[source] length = {plan.length}: a sequence has at least one position; give 1 or more")
    if plan.test and plan.protocol != "sessions":
        raise ConfigError(
            f"[source] test = {plan.test!r}: only protocol sessions reads test rows, not {plan.protocol}; leave it out"
        )
    if plan.protocol == "time" and not plan.time:
        raise ConfigError('[source] protocol = "time" needs the column of the time; give time = "..."')
    return plan


def _rows(histories: Histories, plan: SequencePlan) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """Return for each row (N,) the position of its target, its history, and its code of SPLITS."""
    starts, lengths = histories.starts[:-1], np.diff(histories.starts)
    owner = np.repeat(np.arange(len(starts)), lengths)
    place = np.arange(len(owner))
    is_test_row = np.zeros(len(starts), np.bool_)
    is_test_row[owner[histories.targets]] = True
    # The first touch of a history has no input; a test row of a file is one row, its target.
    keep = (place > starts[owner]) & ~is_test_row[owner]
    keep[histories.targets] = True
    place, owner = place[keep], owner[keep]
    split = np.full(len(place), _TRAIN, np.int8)
    if plan.protocol == "leave_one_out":
        until_end = histories.starts[owner + 1] - place  # 1 is the last
        long = lengths[owner] >= _MIN_TOUCHES
        split[long & (until_end == 1)], split[long & (until_end == 2)] = _TEST, _VALIDATION
    elif plan.protocol == "time":
        shares = (1.0 - plan.validation - plan.test_share, plan.validation, plan.test_share)
        split = by_share(shares, np.argsort(histories.time_ms[place], kind="stable"))
    else:
        split = _split_of_sessions(histories, is_test_row, plan)[owner]
    return place, owner, split


def _split_of_sessions(histories: Histories, is_test_row: NDArray[np.bool_], plan: SequencePlan) -> NDArray[np.int8]:
    """Return the code (H,) of each history: by its end, the newest are test, those before validation."""
    split = np.full(len(is_test_row), _TEST, np.int8)
    rest = np.flatnonzero(~is_test_row)
    ends = histories.time_ms[histories.starts[rest + 1] - 1]
    tests = 0.0 if is_test_row.any() else plan.test_share
    shares = (1.0 - plan.validation - tests, plan.validation, tests)
    split[rest] = by_share(shares, np.argsort(ends, kind="stable"))  # without times: in order of the file
    return split


def _sequences(items: Array, starts: Array, place: Array, length: int) -> NDArray[np.int32]:
    """Return (N, length) int32: the items before each position in its history, numbered from 1, zeros in front."""
    sequences = np.zeros((len(place), length), np.int32)
    before = np.arange(length, 0, -1)
    for at in range(0, len(place), _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        index = place[part, None] - before  # (n, L)
        sequences[part] = np.where(index >= starts[part, None], items[np.maximum(index, 0)] + 1, 0)
    return sequences


def _as_numbers(ids: Array) -> Array:
    """Return ids as integers if all of them are, so that they sort by number."""
    if ids.dtype.kind in "iu":
        return ids
    try:
        numbers = ids.astype(np.int64)
    except (ValueError, OverflowError):
        return ids
    return numbers if (numbers.astype(ids.dtype) == ids).all() else ids  # "007" is not 7
