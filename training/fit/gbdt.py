"""Boosted trees on the rows of a data set: what reads the same dense features and categories as the network, without one.

They serve twice: as a control beside the network (`training.evaluation.controls`), and as its teacher
(`training.fit.distillation`).
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

__all__ = ["LIGHTGBM", "BoostedTrees", "TreeColumns", "boosted"]

# Middling sizes, of which early stopping takes what it needs; one thread and `deterministic`, so the same rows give the same
# trees. Values of the library where not named.
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
_ROWS: Final = 500_000  # trained on at most, evenly taken: a model of seven classes on them takes a quarter of an hour
_PATIENCE: Final = 30  # rounds without a better validation loss
_MOST_CODES: Final = 1_000  # a category column with more is left out: its codes are names, not kinds

Array = NDArray[Any]


class TreeColumns:
    """What trees read of a data set: its dense features, then the codes of its kinds.

    Raises:
        ContractError: The rows have neither.
    """

    def __init__(self, dataset: Dataset) -> None:
        groups = [dataset.inputs[name] for name in ("categories", "context") if name in dataset.inputs]
        groups += [dataset.inputs["scene"][:, None]] if "scene" in dataset.inputs else []
        self._codes = [column for group in groups for column in group.T if column.max(initial=0) < _MOST_CODES]
        self._dense: Array = dataset.inputs.get("dense", np.zeros((len(dataset), 0), np.float32))
        if not self._codes and "dense" not in dataset.inputs:
            raise ContractError(
                f"LightGBM reads dense features and categories, and these rows have {', '.join(dataset.inputs)} only. "
                "Operator action: leave this control, or training.distil, out for this data set."
            )
        self.kinds = list(range(self._dense.shape[1], self._dense.shape[1] + len(self._codes)))  # columns that hold codes

    def of(self, rows: Array) -> Array:
        """Return (R, F) float32 of `rows` (R,)."""
        codes = [column[rows, None].astype(np.float32) for column in self._codes]
        columns: Array = np.concatenate([self._dense[rows], *codes], axis=1)
        return columns


@dataclass(frozen=True)
class BoostedTrees:
    """Trees of one task, and how many rows they were grown on."""

    model: Any  # LightGBM's own type, which is heavy to import
    columns: TreeColumns
    trees: int
    rows: int

    def answers(self, rows: Array) -> Array:
        """Return probabilities for `rows` (R,): (R,) of a binary task, (R, C) of one of classes; float64."""
        return np.asarray(self.model.predict(self.columns.of(rows), num_iteration=self.trees))


def boosted(  # a task, its rows, and how
    task: Task,
    dataset: Dataset,
    columns: TreeColumns,
    train: NDArray[np.int64],
    *,
    parameters: Mapping[str, Any],
    rounds: int = ROUNDS,
) -> BoostedTrees:
    """Grow trees for one binary task, or one of classes.

    Args:
        task: that is learnt.
        dataset: whose labels are read; its validation range stops the growth where it has labels.
        columns: of the data set.
        train: rows (R,) whose label is known, to learn from.
        parameters: of LightGBM, such as `LIGHTGBM` and a seed.
        rounds: trees at most.
    """
    import lightgbm

    labels = dataset.labels[task.label]
    objective = {"objective": "binary"} if task.kind == "binary" else {"objective": "multiclass", "num_class": len(task.classes)}
    train, held = _thinned(train), _thinned(dataset.known(task.label, "validation"))

    def material(rows: Array, like: Any = None) -> Any:  # noqa: ANN401  # LightGBM's own type
        kinds = columns.kinds
        return lightgbm.Dataset(columns.of(rows), labels[rows], categorical_feature=kinds, reference=like, free_raw_data=True)

    fit = material(train)
    watched = [material(held, fit)] if len(held) else []
    stop: list[Any] = [lightgbm.early_stopping(_PATIENCE, verbose=False)] if watched else []
    model = lightgbm.train({**parameters, **objective}, fit, rounds, valid_sets=watched, callbacks=stop)
    return BoostedTrees(model, columns, int(model.best_iteration or rounds), len(train))


def _thinned(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[:: -(-len(rows) // _ROWS) or 1]
