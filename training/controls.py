"""Controls: what the same rows give without sharing anything between tasks.

A control is no floor that has to be beaten to ship; it says what one network for all tasks costs or gains. Two of them:
LightGBM on the same dense features and categories, one model for each task; and the same network trained for each task alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.tasks import Task
from stream_app.errors import ContractError
from training.dataset import Dataset
from training.protocol import Protocol, measure, scored

__all__ = ["LIGHTGBM", "lightgbm_control", "single_task_control", "single_task_sets"]

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
_ROUNDS: Final = 500
_ROWS: Final = 500_000  # trained on at most, evenly taken: a model of seven classes on them takes a quarter of an hour
_PATIENCE: Final = 30  # rounds without a better validation loss
_MOST_CODES: Final = 1_000  # a category column with more is left out: its codes are names, not kinds

Array = NDArray[Any]
Metrics = dict[str, dict[str, float]]


def lightgbm_control(dataset: Dataset, protocol: Protocol | None = None, seed: int = 1, rounds: int = _ROUNDS) -> Metrics:
    """Train one LightGBM model for each binary task and each task of classes; return its metrics on the test range.

    Args:
        dataset: with dense features or categories.
        protocol: how it is judged.
        seed: of the rows and columns that each tree takes.
        rounds: trees at most; fewer where the validation range has labels and stops getting better.

    Raises:
        ContractError: The rows have neither dense features nor categories.
    """
    codes = _codes(dataset)
    if not codes and "dense" not in dataset.inputs:
        raise ContractError(
            f"LightGBM reads dense features and categories, and these rows have {', '.join(dataset.inputs)} only. "
            "Operator action: leave this control out for this data set."
        )
    rule = protocol or Protocol()
    return {
        task.name: _boosted(task, dataset, codes, rule, LIGHTGBM | {"seed": seed}, rounds)
        for task in dataset.tasks
        if task.kind != "retrieval" and len(dataset.known(task.label, "train"))
    }


def single_task_sets(tasks: Sequence[Task]) -> list[tuple[Task, ...]]:
    """Return for each task what has to be trained to have it alone: itself, and the task it is given."""
    by_name = {task.name: task for task in tasks}
    return [(by_name[task.given], task) if task.given else (task,) for task in tasks]


def single_task_control(
    dataset: Dataset, train_and_judge: Callable[[Dataset], Metrics], tasks: Sequence[Task] | None = None
) -> Metrics:
    """Return the metrics of each task when it is trained alone.

    Args:
        dataset: what to train on.
        train_and_judge: trains all tasks of the data set it is given, and returns their metrics on the test range.
        tasks: those to train; all of the data set if None.
    """
    found: Metrics = {}
    for alone in single_task_sets(dataset.tasks if tasks is None else tasks):
        found[alone[-1].name] = train_and_judge(replace(dataset, tasks=alone))[alone[-1].name]
    return found


def _codes(dataset: Dataset) -> list[Array]:
    """Return the columns (N,) that are codes of kinds."""
    groups = [dataset.inputs[name] for name in ("categories", "context") if name in dataset.inputs]
    groups += [dataset.inputs["scene"][:, None]] if "scene" in dataset.inputs else []
    return [column for group in groups for column in group.T if column.max(initial=0) < _MOST_CODES]


def _columns(dataset: Dataset, codes: list[Array], rows: Array) -> Array:
    """Return (R, F) float32: the dense features of `rows` (R,), then their codes."""
    dense = dataset.inputs["dense"][rows] if "dense" in dataset.inputs else np.zeros((len(rows), 0), np.float32)
    columns: Array = np.concatenate([dense, *[column[rows, None].astype(np.float32) for column in codes]], axis=1)
    return columns


def _boosted(  # a task, its rows, and how
    task: Task,
    dataset: Dataset,
    codes: list[Array],
    protocol: Protocol,
    parameters: dict[str, Any],
    rounds: int,
) -> dict[str, float]:
    import lightgbm

    labels = dataset.labels[task.label]
    objective = {"objective": "binary"} if task.kind == "binary" else {"objective": "multiclass", "num_class": len(task.classes)}
    train, held = (_thinned(dataset.known(task.label, split)) for split in ("train", "validation"))

    def material(rows: Array, like: Any = None) -> Any:  # noqa: ANN401  # LightGBM's own type, which is heavy to import
        columns = _columns(dataset, codes, rows)
        kinds = list(range(columns.shape[1] - len(codes), columns.shape[1]))
        return lightgbm.Dataset(columns, labels[rows], categorical_feature=kinds, reference=like, free_raw_data=True)

    fit = material(train)
    watched = [material(held, fit)] if len(held) else []
    stop: list[Any] = [lightgbm.early_stopping(_PATIENCE, verbose=False)] if watched else []
    model = lightgbm.train(parameters | objective, fit, rounds, valid_sets=watched, callbacks=stop)
    test = dataset.rows("test")
    answered = np.asarray(model.predict(_columns(dataset, codes, test), num_iteration=model.best_iteration or None))
    found = measure(scored(task, dataset, test, answered, protocol), dataset, protocol)
    return found | {"trees": float(model.best_iteration or rounds), "trained_rows": float(len(train))}


def _thinned(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[:: -(-len(rows) // _ROWS) or 1]
