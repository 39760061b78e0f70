"""Checks of the data set before a training, and of losses and metrics during it; each error names the task and the fix."""

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

_MAY_BE_NAN: Final = "dense"  # its encoder reads NaN as the median, infinity as its limit


def check_dataset(dataset: Dataset, tasks: Sequence[Task], *, needs_metrics: bool = False) -> None:
    """Refuse data that cannot be learnt from.

    With `needs_metrics` the best epoch is chosen by metrics, which need validation labels of several values; a loss without
    labels is zero.

    Raises:
        ConfigError: The metric that decides is not part of every evaluation.
        ContractError: An empty split; a task without labels or with a single value; a label out of range; NaN in an input other
            than dense features.
    """
    unusable = [task for task in tasks if needs_metrics and not is_metric_of(task.kind, task.metric)]
    if unusable:
        raise ConfigError(
            f"task {unusable[0].name}: metric {unusable[0].metric!r} is not in every evaluation of kind {unusable[0].kind}, so "
            f"it cannot decide; set tasks.{unusable[0].name}.metric to another, such as {DEFAULT_METRICS[unusable[0].kind]}"
        )
    for split in ("train", "validation"):
        if not len(dataset.rows(split)):
            counts = {name: len(dataset.rows(name)) for name in ("train", "validation", "test")}
            raise ContractError(
                f"the {split} range is empty: the data set has {counts} rows. Operator action: give more data, or other shares "
                "of the split in [source] of the configuration."
            )
    for task in tasks:
        _check_labels(dataset, task, needs_metrics=needs_metrics)
    _check_inputs(dataset)


def check_losses(losses: Mapping[str, float], epoch: int, options: TrainingOptions) -> None:
    """Stop a training whose loss is not finite.

    Raises:
        ContractError: A loss is infinite or NaN; the message names task and epoch.
    """
    for name, loss in losses.items():
        if not math.isfinite(loss):
            raise ContractError(
                f"task {name}: its loss is {loss} in epoch {epoch}. Operator action: lower training.learning_rate "
                f"({options.learning_rate:g}) or training.largest_gradient ({options.largest_gradient:g}), and begin again."
            )


def check_best_epoch(tasks: Sequence[Task], history: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a training without a best epoch; `history` has `best` and `metrics` of all epochs.

    Raises:
        ContractError: No epoch is the best, because a metric was NaN in all; the message names the tasks.
    """
    if any(epoch["best"] for epoch in history):
        return
    last = history[-1]["metrics"]
    undefined = [f"{task.name}: {task.metric}" for task in tasks if not math.isfinite(last[task.name][task.metric])]
    raise ContractError(
        f"{', '.join(undefined)} on the validation range is no number in any of {len(history)} epochs, so none of them is the "
        "best. Operator action: set tasks.<name>.metric to one that the validation rows allow, or training.stop_on "
        "to loss."
    )


def _check_labels(dataset: Dataset, task: Task, *, needs_metrics: bool) -> None:
    values = dataset.labels[task.label]
    classes = {"binary": 2, "classes": len(task.classes), "retrieval": item_count(dataset)}[task.kind]
    low, high = int(values.min()), int(values.max())
    if low < UNKNOWN or high >= classes:
        raise ContractError(
            f"task {task.name}: its labels {task.label!r} are {low} to {high}, and as {task.kind} with {classes} answers they "
            f"must be -1 (unknown) to {classes - 1}. Operator action: correct the labels, or the task's classes."
        )
    for split, minimum in (("train", 2), ("validation", 2 if needs_metrics else 0)):
        known = dataset.known(task.label, split)
        if minimum and not len(known):
            raise ContractError(
                f"task {task.name}: all {len(dataset.rows(split)):,} labels {task.label!r} of the {split} range are missing. "
                f"Operator action: leave the task out (--tasks), or give data in which {task.label!r} is known."
            )
        if minimum and len(np.unique(values[known])) == 1:
            raise ContractError(
                f"task {task.name}: all {len(known):,} known labels {task.label!r} of the {split} range are "
                f"{int(values[known[0]])}, there is nothing to tell apart. Operator action: leave the task out (--tasks), or "
                "give data with more than one answer."
            )


def _check_inputs(dataset: Dataset) -> None:
    for name, values in dataset.inputs.items():
        if name == _MAY_BE_NAN or not np.issubdtype(values.dtype, np.floating):
            continue
        invalid = int((~np.isfinite(values)).sum())
        if invalid:
            raise ContractError(
                f"input {name!r} has {invalid:,} values of {values.size:,} that are NaN or infinite. "
                "Operator action: correct the source; only dense features may be unknown (NaN)."
            )
