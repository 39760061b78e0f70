"""Seeded split of rows into train, validation and test.

given    by the file of a row, or by a column; without validation rows a share of the train rows is used for validation
random   by shares, stratified where a label is named
folds    test is one of k parts of equal size, stratified; each row is a test row in exactly one fold
time     by shares in order of time: no test row is older than a train row
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_app.errors import ContractError
from training.data.dataset import SPLITS
from training.data.splitting import by_share

_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))


class SplitPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How rows are split.

    Attributes:
        kind: see the module.
        validation: share of the rows outside of the test (of all rows for `random` and `time`).
        test: share of all rows; for `random` and `time`.
        seed: of the random kinds.
        stratify: name of a label: each part gets the same share of each of its values; "" = the first label.
        folds, fold: number of parts, and number of the test part, from 0.
        column: for `given`: the column of the split; "" = the file decides.
        values: for `given` by column: the column's values of train, of validation and of test rows.
        time: for `time`: the column of the time.
    """

    kind: Literal["given", "random", "folds", "time"] = "random"
    validation: float = 0.1
    test: float = 0.2
    seed: int = 42
    stratify: str = ""
    folds: int = 10
    fold: int = 0
    column: str = ""
    values: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] = ((), (), ())
    time: str = ""


def assign(
    plan: SplitPlan, strata: NDArray[np.int64], file_split: NDArray[np.int8] | None = None, time: NDArray[np.int64] | None = None
) -> NDArray[np.int8]:
    """Return (N,) int8 codes of training.data.dataset.SPLITS for rows of `strata` (N,).

    `file_split` (N,), codes by file or column, -1 = none, is needed for `given`; `time` (N,), in any unit, for `time`.

    Raises:
        ContractError: A part has no rows.
    """
    draw = np.random.default_rng(plan.seed)
    split = np.full(len(strata), _TRAIN, np.int8)
    if plan.kind == "given":
        assert file_split is not None
        split = file_split.copy()
        if not (split == _VALIDATION).any():
            _draw_validation(split, strata, plan.validation, draw)
    elif plan.kind == "folds":
        if not 0 <= plan.fold < plan.folds:
            raise ContractError(f"[source.split] fold is {plan.fold}, folds {plan.folds}. Operator action: 0 <= fold < folds.")
        split[_fold_of(strata, plan.folds, draw) == plan.fold] = _TEST
        _draw_validation(split, strata, plan.validation, draw)
    elif plan.kind == "time":
        assert time is not None
        split = by_share((1.0 - plan.validation - plan.test, plan.validation, plan.test), np.argsort(time, kind="stable"))
    else:
        rank = _random_ranks(strata, draw)
        split[rank < plan.test + plan.validation] = _VALIDATION
        split[rank < plan.test] = _TEST
    empty = [name for code, name in enumerate(SPLITS) if not (split == code).any()]
    if empty:
        raise ContractError(
            f"[source.split] kind {plan.kind!r} leaves no {' and no '.join(empty)} rows of {len(split):,}. Operator action: "
            f"change validation ({plan.validation}) and test ({plan.test}), or give more rows."
        )
    return split


def _draw_validation(split: NDArray[np.int8], strata: NDArray[np.int64], share: float, draw: np.random.Generator) -> None:
    train = np.flatnonzero(split == _TRAIN)
    split[train[_random_ranks(strata[train], draw) < share]] = _VALIDATION


def _shuffled(strata: NDArray[np.int64], draw: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows in random order within each stratum, and the number of each within its stratum."""
    order = draw.permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    _, starts, counts = np.unique(strata[order], return_index=True, return_counts=True)
    return order, np.arange(len(strata)) - np.repeat(starts, counts)


def _random_ranks(strata: NDArray[np.int64], draw: np.random.Generator) -> NDArray[np.float64]:
    """Return (N,) random ranks in [0, 1), spread evenly over the rows of each stratum."""
    order, within = _shuffled(strata, draw)
    _, inverse, counts = np.unique(strata[order], return_inverse=True, return_counts=True)
    ranks = np.empty(len(strata))
    ranks[order] = (within + draw.random(len(counts))[inverse]) / counts[inverse]
    return ranks


def _fold_of(strata: NDArray[np.int64], folds: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Return the fold (N,) of each row; the sizes of folds differ by at most one, in each stratum too."""
    order, _ = _shuffled(strata, draw)
    fold = np.empty(len(strata), np.int64)
    fold[order] = np.arange(len(strata)) % folds
    return fold
