"""Gradient-boosted trees (LightGBM) on the same dense features and categories that the network reads.

Used as a control beside the network (`training.evaluation.controls`) and for distillation (`training.fit.distillation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.tasks import Task
from stream_app.errors import ContractError
from training.data.dataset import Dataset

# Middle-sized trees; early stopping chooses their number. One thread and `deterministic`, so the same rows give the same trees.
# All other parameters keep the library's defaults.
LIGHTGBM: Final[dict[str, Any]] = {
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_child_samples": 20,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "verbosity": -1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
}
ROUNDS: Final = 500
_ROWS: Final = 500_000  # maximum number of training rows, evenly spaced: seven classes on them take a quarter of an hour
_PATIENCE: Final = 30  # rounds without a better validation loss
_MAX_CODES: Final = 1_000  # a category column with more is left out: its codes are identifiers

Array = NDArray[Any]


class TreeColumns:
    """Feature columns of a data set for trees: dense features, then category codes.

    Raises:
        ContractError: The rows have neither.
    """

    def __init__(self, dataset: Dataset) -> None:
        groups = [dataset.inputs[name] for name in ("categories", "context") if name in dataset.inputs]
        groups += [dataset.inputs["scene"][:, None]] if "scene" in dataset.inputs else []
        self._codes = [column for group in groups for column in group.T if column.max(initial=0) < _MAX_CODES]
        self._dense: Array = dataset.inputs.get("dense", np.zeros((len(dataset), 0), np.float32))
        if not self._codes and "dense" not in dataset.inputs:
            raise ContractError(
                f"LightGBM reads dense features and categories, and these rows have {', '.join(dataset.inputs)} only. "
                "Operator action: leave this control, or training.distil, out for this data set."
            )
        self.categorical = list(range(self._dense.shape[1], self._dense.shape[1] + len(self._codes)))  # columns of codes

    def take(self, rows: Array) -> Array:
        """Return (R, F) float32 of `rows` (R,)."""
        codes = [column[rows, None].astype(np.float32) for column in self._codes]
        columns: Array = np.concatenate([self._dense[rows], *codes], axis=1)
        return columns


@dataclass(frozen=True)
class BoostedTrees:
    """Trees of one task, their number, and the number of training rows."""

    model: Any  # LightGBM's own type, which is heavy to import
    columns: TreeColumns
    trees: int
    rows: int

    def predict(self, rows: Array) -> Array:
        """Return probabilities for `rows` (R,): (R,) of a binary task, (R, C) of one of classes; float64."""
        return np.asarray(self.model.predict(self.columns.take(rows), num_iteration=self.trees))


def grow_trees(
    task: Task,
    dataset: Dataset,
    columns: TreeColumns,
    train: NDArray[np.int64],
    *,
    parameters: Mapping[str, Any],
    rounds: int = ROUNDS,
) -> BoostedTrees:
    """Grow at most `rounds` trees for a task of kind `binary` or `classes`; validation rows with a label stop the growth early.

    `train` are (R,) training rows with a known label, `parameters` those of LightGBM, such as `LIGHTGBM` and a seed.
    """
    import lightgbm

    labels = dataset.labels[task.label]
    objective = {"objective": "binary"} if task.kind == "binary" else {"objective": "multiclass", "num_class": len(task.classes)}
    train, validation = _subsample(train), _subsample(dataset.known(task.label, "validation"))

    def lgb_dataset(rows: Array, reference: Any = None) -> Any:  # noqa: ANN401  # LightGBM's own type
        return lightgbm.Dataset(columns.take(rows), labels[rows], categorical_feature=columns.categorical, reference=reference)

    fit = lgb_dataset(train)
    watched = [lgb_dataset(validation, fit)] if len(validation) else []
    stop: list[Any] = [lightgbm.early_stopping(_PATIENCE, verbose=False)] if watched else []
    model = lightgbm.train({**parameters, **objective}, fit, rounds, valid_sets=watched, callbacks=stop)
    return BoostedTrees(model, columns, int(model.best_iteration or rounds), len(train))


def _subsample(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[:: -(-len(rows) // _ROWS) or 1]
