"""Distillation: boosted trees teach the network how sure it may be of each training row.

A label says 0 or 1; the trees' probability also says how likely that was, which takes most of the noise out of what is learnt.
Trees know the rows that they were grown on by heart, and would only repeat their labels. So the training range is cut into
folds, and a row is answered by trees that were grown on the other folds. What the network then learns is its label and that
answer, mixed: `training.distil` is the answer's share.

Sources: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015; Dao et al., "Knowledge Distillation as
Semiparametric Inference", ICLR 2021 (answers of the other folds).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.tasks import Task
from training.config import TrainingOptions
from training.data.dataset import Dataset
from training.fit.gbdt import LIGHTGBM, TreeColumns, boosted

__all__ = ["with_teacher"]


def with_teacher(
    dataset: Dataset, tasks: Sequence[Task], options: TrainingOptions, say: Callable[[str], None] = lambda _: None
) -> Dataset:
    """Return the data set with `taught` filled for each of `tasks` that trees can learn: all but retrieval.

    As it is where nothing is to be distilled, or where it has been taught already, so several trainings share one teacher.

    Args:
        dataset: what is learnt; rows of one key (user, session) are in one fold, so none is answered with its neighbours' help.
        tasks: that are trained.
        options: `distil`, `teacher_folds` and `seed` are read.
        say: told what is being done, one sentence for each task.

    Raises:
        ContractError: The rows have neither dense features nor categories.
    """
    wanted = [task for task in tasks if task.kind != "retrieval" and task.name not in dataset.taught]
    if not options.distil or not wanted:
        return dataset
    columns, fold = TreeColumns(dataset), _folds(dataset, options)
    taught = dict(dataset.taught)
    for task in wanted:
        say(f"growing trees on {options.teacher_folds} folds of the training range, to teach {task.name}")
        taught[task.name] = _answers(task, dataset, columns, fold, options)
    return replace(dataset, taught=taught)


def _folds(dataset: Dataset, options: TrainingOptions) -> NDArray[np.int64]:
    """Return the fold (N,) of each row, drawn for each key."""
    keys, number = np.unique(dataset.key, return_inverse=True)
    drawn = np.random.default_rng(options.seed).permutation(len(keys)) % options.teacher_folds
    found: NDArray[np.int64] = drawn[number]
    return found


def _answers(
    task: Task, dataset: Dataset, columns: TreeColumns, fold: NDArray[np.int64], options: TrainingOptions
) -> NDArray[np.float32]:
    """Return (N,) or (N, C) float32: of training rows whose label is known what the other folds' trees say, else NaN."""
    shape = (len(dataset), len(task.classes)) if task.kind == "classes" else (len(dataset),)
    answers = np.full(shape, np.nan, np.float32)
    known = dataset.known(task.label, "train")
    for number in range(options.teacher_folds):
        asked = known[fold[known] == number]
        others = known[fold[known] != number]
        if len(asked) and len(others):
            trees = boosted(task, dataset, columns, others, parameters=LIGHTGBM | {"seed": options.seed})
            answers[asked] = trees.answers(asked)
    return answers
