"""Tables of any kind: numeric columns as they are, categories as codes, whatever the config declares; nothing is guessed.

    numeric      float32, NaN where missing; the network scales, and learns what it means that a number is missing
    categories   0 = unknown, 1.. = the texts of train rows, sorted; seen in fewer than `least` train rows = unknown
    scene        0 = unknown, 1.. = the scenes in order of `Dataset.segments`

What a code means is learnt on train rows alone and kept in `Dataset.fitted` ("category_<column>"), so serving can repeat it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.inputs import TableInputs
from stream_app.errors import ConfigError, ContractError
from training.data.dataset import Dataset
from training.data.parsing.cells import numbers_of
from training.data.parsing.declared import Rows, SourcePlan, plan_from_section, rows_from_files

__all__ = ["TablePlan", "dataset_from_table"]

_TRAIN: Final = 0


class TablePlan(SourcePlan, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A [source] section of kind "table".

    Attributes:
        numeric: columns of numbers.
        categorical: columns of texts.
        drop: columns that are no features, on purpose. Every column must be declared: as one of these, or as a label, scene,
            time or key.
        least: a category seen in fewer train rows is unknown.
    """

    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    least: int = 3


def dataset_from_table(path: Path, source: Mapping[str, Any], progress: Callable[[str], None] = lambda _: None) -> Dataset:
    """Read a CSV or Parquet file as its config declares it.

    Args:
        path: the file, or the folder with the files that the config names.
        source: the [source] section, see `TablePlan`.
        progress: told what is being done, one sentence at a time.

    Raises:
        ConfigError: The section is wrong, or a column of the file is not declared.
        InputFileError: A file or a cell cannot be read.
        ContractError: A part of the split is empty, or a numeric column has no number.
    """
    plan = plan_from_section(source, TablePlan)
    progress(f"reading {path}")
    rows = rows_from_files(path, plan)
    _check_declared(rows, plan)
    progress(f"{len(rows.split):,} rows, {len(plan.numeric)} numeric and {len(plan.categorical)} categorical columns")
    codes, counts, fitted = _categories(rows, plan)
    inputs: dict[str, NDArray[Any]] = {"dense": _dense(rows, plan)} if plan.numeric else {}
    if counts:
        inputs["categories"] = codes
    if plan.scene:
        inputs["scene"] = rows.scene
    spec = TableInputs(len(plan.numeric), counts, len(rows.segments) + 1 if plan.scene else 0)
    return rows.dataset(inputs, spec, fitted, plan.numeric)


def _check_declared(rows: Rows, plan: TablePlan) -> None:
    roles = {"numeric": plan.numeric, "categorical": plan.categorical, "drop": plan.drop}
    roles |= {"label": tuple(label.column for label in plan.labels)}
    others = {plan.scene, plan.time, plan.key, plan.split.time, plan.split.column, "file"}
    named = {column for columns in roles.values() for column in columns} | others
    undeclared = [column for column in rows.columns.cells if column not in named]
    twice = [
        f"{column} ({' and '.join(of)})"
        for column in sorted(named)
        if len(of := [r for r, c in roles.items() if column in c]) > 1
    ]
    problems = [f"the columns {', '.join(undeclared)} are not declared: name each in numeric, categorical or drop"] * bool(
        undeclared
    )
    problems += [f"{', '.join(twice)}: a column has one role only; a label as a feature would give its answer away"] * bool(twice)
    problems += ["no feature is left: declare numeric or categorical columns"] * (not plan.numeric and not plan.categorical)
    if problems:
        raise ConfigError("[source]: " + "; ".join(problems))


def _dense(rows: Rows, plan: TablePlan) -> NDArray[np.float32]:
    """Return (N, F) float32, NaN where missing."""
    train = rows.split == _TRAIN
    dense = np.zeros((len(train), len(plan.numeric)), np.float32)
    for place, name in enumerate(plan.numeric):
        dense[:, place] = numbers_of(rows.columns, name, plan.missing)
        if np.isnan(dense[train, place]).all():
            raise ContractError(
                f"numeric column {name!r} has no number in {int(train.sum()):,} train rows. Operator action: move it to drop, or "
                "correct missing, in [source]."
            )
    return dense


def _categories(rows: Rows, plan: TablePlan) -> tuple[NDArray[np.int32], tuple[int, ...], dict[str, NDArray[Any]]]:
    """Return (N, C) int32 codes, the number of codes of each column, and the texts of the codes from 1."""
    train = np.flatnonzero(rows.split == _TRAIN)
    codes = np.zeros((len(rows.split), len(plan.categorical)), np.int32)
    fitted: dict[str, NDArray[Any]] = {}
    for place, name in enumerate(plan.categorical):
        texts, unknown = rows.columns[name], frozenset(plan.missing)
        seen = Counter(texts[row] for row in train)
        kept = sorted(text for text, times in seen.items() if times >= plan.least and text not in unknown)
        code = {text: number for number, text in enumerate(kept, 1)}
        codes[:, place] = [code.get(text, 0) for text in texts]
        fitted[f"category_{name}"] = np.array(kept, np.str_)
    return codes, tuple(len(kept) + 1 for kept in fitted.values()), fitted
