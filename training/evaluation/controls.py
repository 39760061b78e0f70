"""Controls: models on the same rows that share nothing between tasks.

A control is not a baseline that has to be beaten to ship; it shows what one network for all tasks costs or gains. Two of them:
LightGBM on the same dense features and categories, one model for each task; and the same network trained for each task alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from model.tasks import Task
from training.data.dataset import Dataset
from training.evaluation.protocol import DEFAULT_PROTOCOL, EvaluationProtocol, measure, split_scores
from training.fit.gbdt import LIGHTGBM, ROUNDS, TreeColumns, grow_trees

Metrics = dict[str, dict[str, float]]


def lightgbm_control(
    dataset: Dataset, protocol: EvaluationProtocol = DEFAULT_PROTOCOL, seed: int = 1, rounds: int = ROUNDS
) -> Metrics:
    """Train one LightGBM model for each binary task and each task of classes; return its metrics on the test range.

    `rounds` bounds the number of trees; there are fewer where the loss on the validation range stops falling.

    Raises:
        ContractError: The rows have neither dense features nor categories.
    """
    columns = TreeColumns(dataset)
    metrics: Metrics = {}
    for task in dataset.tasks:
        known = dataset.known(task.label, "train")
        if task.kind == "retrieval" or not len(known):
            continue
        trees = grow_trees(task, dataset, columns, known, parameters=LIGHTGBM | {"seed": seed}, rounds=rounds)
        test = dataset.rows("test")
        measured = measure(split_scores(task, dataset, test, trees.predict(test), protocol), dataset, protocol)
        metrics[task.name] = measured | {"trees": float(trees.trees), "trained_rows": float(trees.rows)}
    return metrics


def single_task_sets(tasks: Sequence[Task]) -> list[tuple[Task, ...]]:
    """Return for each task the set that trains it alone: itself, and the task on which it is conditioned."""
    by_name = {task.name: task for task in tasks}
    return [(by_name[task.given], task) if task.given else (task,) for task in tasks]


def single_task_control(dataset: Dataset, train_and_evaluate: Callable[[Dataset], Metrics]) -> Metrics:
    """Return the metrics of each task when it is trained alone, by a function that returns those of a data set's tasks."""
    names_and_tasks = [(tasks[-1].name, tasks) for tasks in single_task_sets(dataset.tasks)]
    return {name: train_and_evaluate(replace(dataset, tasks=tasks))[name] for name, tasks in names_and_tasks}
