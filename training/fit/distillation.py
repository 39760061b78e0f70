"""Distillation: the network learns from labels mixed with the probabilities of gradient-boosted trees.

A label is 0 or 1; the probability of the trees carries less noise. Trees overfit the rows that they were grown on, so the
training range is cut into folds, and trees grown on the other folds predict each row. `training.distil` is the share of that
prediction in the target.

Sources: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015; Dao et al., "Knowledge Distillation as
Semiparametric Inference", ICLR 2021 (out-of-fold predictions).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.tasks import Task
from training.config import TrainingOptions
from training.data.dataset import Dataset
from training.fit.gbdt import LIGHTGBM, TreeColumns, grow_trees


def with_soft_labels(
    dataset: Dataset, tasks: Sequence[Task], options: TrainingOptions, say: Callable[[str], None] = lambda _: None
) -> Dataset:
    """Return the data set with `soft_labels` for each of `tasks` that trees can learn: all but retrieval.

    Return it unchanged if `options.distil` is 0 or the soft labels are already there, so several trainings share them. All rows
    of one key (user, session) are in one fold, so the trees of a row have not seen its key.

    Raises:
        ContractError: The rows have neither dense features nor categories.
    """
    missing = [task for task in tasks if task.kind != "retrieval" and task.name not in dataset.soft_labels]
    if not options.distil or not missing:
        return dataset
    keys, number = np.unique(dataset.key, return_inverse=True)
    fold = (np.random.default_rng(options.seed).permutation(len(keys)) % options.teacher_folds)[number]  # (N,)
    columns = TreeColumns(dataset)
    soft_labels = dict(dataset.soft_labels)
    for task in missing:
        say(f"growing trees on {options.teacher_folds} folds of the training range, for soft labels of {task.name}")
        soft_labels[task.name] = _out_of_fold(task, dataset, columns, fold, options)
    return replace(dataset, soft_labels=soft_labels)


def _out_of_fold(
    task: Task, dataset: Dataset, columns: TreeColumns, fold: NDArray[np.int64], options: TrainingOptions
) -> NDArray[np.float32]:
    """Return (N,) or (N, C) float32: out-of-fold predictions for training rows with a known label, NaN for all others."""
    shape = (len(dataset), len(task.classes)) if task.kind == "classes" else (len(dataset),)
    predictions = np.full(shape, np.nan, np.float32)
    known = dataset.known(task.label, "train")
    for number in range(options.teacher_folds):
        held_out = known[fold[known] == number]
        rest = known[fold[known] != number]
        if len(held_out) and len(rest):
            trees = grow_trees(task, dataset, columns, rest, parameters=LIGHTGBM | {"seed": options.seed})
            predictions[held_out] = trees.predict(held_out)
    return predictions
