"""Tables: numeric columns as they are, categories as codes; the configuration declares every column.

    numeric      float32, NaN where missing; the network scales them and learns the effect of a missing number
    categories   0 = unknown, 1.. = the texts of train rows, sorted; seen in fewer than `least` train rows = unknown
    scene        0 = unknown, 1.. = the scenes in order of `Dataset.segments`

Codes are learnt on train rows alone and stored in `Dataset.fitted` ("category_<column>"), so serving can repeat them.
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
from training.data.parsing.columns import numbers_of
from training.data.parsing.labelled_rows import LabelledRows, SourcePlan, plan_from_section, rows_from_files

_TRAIN: Final = 0


class TablePlan(SourcePlan, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A [source] section of kind "table".

    Attributes:
        numeric: columns of numbers.
        categorical: columns of texts.
        drop: columns to ignore. Every column must be declared: in one of these, or as a label, scene, time or key.
        least: a category seen in fewer train rows is unknown.
    """

    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    least: int = 3


def dataset_from_table(path: Path, source: Mapping[str, Any], progress: Callable[[str], None] = lambda _: None) -> Dataset:
    """Read a CSV or Parquet file as the configuration declares it.

    `path` is the file, or the folder of the files that `source`, a `TablePlan`, names.

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


def _check_declared(rows: LabelledRows, plan: TablePlan) -> None:
    roles = {"numeric": plan.numeric, "categorical": plan.categorical, "drop": plan.drop}
    roles |= {"label": tuple(label.column for label in plan.labels)}
    other_roles = {plan.scene, plan.time, plan.key, plan.split.time, plan.split.column, "file"}
    declared = {column for columns in roles.values() for column in columns} | other_roles
    undeclared = [column for column in rows.columns.cells if column not in declared]
    twice = [
        f"{column} ({' and '.join(of)})"
        for column in sorted(declared)
        if len(of := [r for r, c in roles.items() if column in c]) > 1
    ]
    problems = [f"the columns {', '.join(undeclared)} are not declared: name each in numeric, categorical or drop"] * bool(
        undeclared
    )
    problems += [f"{', '.join(twice)}: a column has one role only; a label must not be a feature"] * bool(twice)
    problems += ["there is no feature: declare numeric or categorical columns"] * (not plan.numeric and not plan.categorical)
    if problems:
        raise ConfigError("[source]: " + "; ".join(problems))


def _dense(rows: LabelledRows, plan: TablePlan) -> NDArray[np.float32]:
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


def _categories(rows: LabelledRows, plan: TablePlan) -> tuple[NDArray[np.int32], tuple[int, ...], dict[str, NDArray[Any]]]:
    """Return (N, C) int32 codes, the number of codes of each column, and the texts of the codes from 1."""
    train = np.flatnonzero(rows.split == _TRAIN)
    codes = np.zeros((len(rows.split), len(plan.categorical)), np.int32)
    fitted: dict[str, NDArray[Any]] = {}
    for place, name in enumerate(plan.categorical):
        texts, unknown = rows.columns[name], frozenset(plan.missing)
        counts = Counter(texts[row] for row in train)
        categories = sorted(text for text, count in counts.items() if count >= plan.least and text not in unknown)
        code = {text: number for number, text in enumerate(categories, 1)}
        codes[:, place] = [code.get(text, 0) for text in texts]
        fitted[f"category_{name}"] = np.array(categories, np.str_)
    return codes, tuple(len(categories) + 1 for categories in fitted.values()), fitted
