"""What a data set must have before a training begins, and losses and metrics later: each fault names the task and the fix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from model.tasks import DEFAULT_METRICS, Task
from stream_app.errors import ConfigError, ContractError
from training.config import TrainingOptions
from training.data.dataset import UNKNOWN, Dataset
from training.evaluation.metrics import is_metric_of
from training.fit.batch_losses import item_count

__all__ = ["check_dataset", "check_losses", "check_reached"]

_MAY_BE_NAN: Final = "dense"  # its encoder reads NaN as the median, infinity as its limit


def check_dataset(dataset: Dataset, tasks: Sequence[Task], *, judged: bool = False) -> None:
    """Refuse data that nothing can be learnt from.

    Args:
        dataset: the data.
        tasks: that are to be trained.
        judged: whether validation needs labels of more than one kind too, for a metric; a loss without labels is zero.

    Raises:
        ConfigError: A metric is to decide that not every evaluation has.
        ContractError: An empty split, a task without labels or with only one, a label out of range, NaN where it means nothing.
    """
    wrong = [task for task in tasks if judged and not is_metric_of(task.kind, task.metric)]
    if wrong:
        raise ConfigError(
            f"task {wrong[0].name}: metric {wrong[0].metric!r} does not come with every evaluation of kind {wrong[0].kind}, so "
            f"it cannot decide; set tasks.{wrong[0].name}.metric to another one, such as {DEFAULT_METRICS[wrong[0].kind]}"
        )
    for split in ("train", "validation"):
        if not len(dataset.rows(split)):
            counts = {name: len(dataset.rows(name)) for name in ("train", "validation", "test")}
            raise ContractError(
                f"the {split} range is empty: the data set has {counts} rows. Operator action: give more data, or other shares "
                "of the split in [source] of the configuration."
            )
    for task in tasks:
        _check_labels(dataset, task, judged=judged)
    _check_inputs(dataset)


def check_losses(losses: Mapping[str, float], epoch: int, options: TrainingOptions) -> None:
    """Refuse to go on when a loss is no number.

    Raises:
        ContractError: It is so; the message names task and epoch.
    """
    for name, loss in losses.items():
        if not math.isfinite(loss):
            raise ContractError(
                f"task {name}: its loss is {loss} in epoch {epoch}. Operator action: lower training.learning_rate "
                f"({options.learning_rate:g}) or training.largest_gradient ({options.largest_gradient:g}), and begin again."
            )


def check_reached(tasks: Sequence[Task], history: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a training none of whose epochs was better than no training at all.

    Args:
        tasks: that were trained.
        history: of all epochs, with `best` and `metrics`.

    Raises:
        ContractError: No epoch is the best, because a metric was a number in none; the message names whose.
    """
    if any(epoch["best"] for epoch in history):
        return
    last = history[-1]["metrics"]
    lost = [f"{task.name}: {task.metric}" for task in tasks if not math.isfinite(last[task.name][task.metric])]
    raise ContractError(
        f"{', '.join(lost)} on the validation range is no number in any of {len(history)} epochs, so that none of them is the "
        "best. Operator action: set tasks.<name>.metric to one that the validation rows can be judged by, or training.stop_on "
        "to loss."
    )


def _check_labels(dataset: Dataset, task: Task, *, judged: bool) -> None:
    values = dataset.labels[task.label]
    many = {"binary": 2, "classes": len(task.classes), "retrieval": item_count(dataset)}[task.kind]
    low, high = int(values.min()), int(values.max())
    if low < UNKNOWN or high >= many:
        raise ContractError(
            f"task {task.name}: its labels {task.label!r} are {low} to {high}, and as {task.kind} with {many} answers they must "
            f"be -1 (unknown) to {many - 1}. Operator action: correct the labels, or the task's classes."
        )
    for split, least in (("train", 2), ("validation", 2 if judged else 0)):
        known = dataset.known(task.label, split)
        if least and not len(known):
            raise ContractError(
                f"task {task.name}: all {len(dataset.rows(split)):,} labels {task.label!r} of the {split} range are missing. "
                f"Operator action: leave the task out (--tasks), or give data in which {task.label!r} is known."
            )
        if least and len(np.unique(values[known])) == 1:
            raise ContractError(
                f"task {task.name}: all {len(known):,} known labels {task.label!r} of the {split} range are "
                f"{int(values[known[0]])}, there is nothing to tell apart. Operator action: leave the task out (--tasks), or "
                "give data with more than one answer."
            )


def _check_inputs(dataset: Dataset) -> None:
    for name, values in dataset.inputs.items():
        if name == _MAY_BE_NAN or not np.issubdtype(values.dtype, np.floating):
            continue
        wrong = int((~np.isfinite(values)).sum())
        if wrong:
            raise ContractError(
                f"input {name!r} has {wrong:,} values of {values.size:,} that are NaN or infinite, and they mean nothing there. "
                "Operator action: correct the source; only dense features may be unknown (NaN)."
            )
