"""The tasks of a data set that can be learnt: those whose labels are known and differ.

Without `--tasks` all of them are trained, and the rest is reported with the reason. A task that the user names and that
cannot be learnt is an error with what is missing and the fix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from model.tasks import Task
from stream_app.errors import ConfigError
from training.data.dataset import SPLITS, UNKNOWN, Dataset

# How to get a label, by label; all other labels come with the source.
_FIXES: Final = {
    "fraud": 'give the mapping a [[record]] with topic = "labels", task = "fraud" and value = the column that holds it',
    "intent": "give a log whose sessions end, with several events each, or labels of task intent",
    "next_action": "give a log in which users do several things (source.leave = true also asks whether they go)",
    "click": 'map views of items to action = "view" and what follows them to click, cart, favourite or an order',
    "conversion": 'map views of items to action = "view" and purchases to the topic orders',
    "next_item": 'map what users take to action = "click", "cart" or to orders, or set source.recommend = "next item"',
}


def choose_tasks(dataset: Dataset, named: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names of the tasks to train, those that the user `named` or all, and why each other task cannot be learnt.

    Raises:
        ConfigError: A named task does not exist or cannot be learnt, or no task can.
    """
    by_name = {task.name: task for task in dataset.tasks}
    unknown = [name for name in named if name not in by_name]
    if unknown:
        raise ConfigError(f"--tasks names {', '.join(unknown)}; this data set has the tasks {', '.join(by_name)}")
    reasons = {name: why_not_learnable(dataset, by_name[name]) for name in (named or by_name)}
    for name, reason in list(reasons.items()):
        condition = by_name[name].given
        if condition and not reason and (condition not in reasons or reasons[condition]):
            reasons[name] = f"it is conditional on {condition}, which is not trained: name {condition} too, or give it labels"
    faults = {name: reason for name, reason in reasons.items() if reason}
    learnable = tuple(name for name in reasons if name not in faults)
    if (named and faults) or not learnable:
        listed = "\n".join(f"  - task {name}: {reason}" for name, reason in faults.items())
        raise ConfigError(
            f"{'Not all of the tasks' if learnable else 'No task'} can be learnt from the data:\n{listed}\n"
            "Operator action: give what is missing, or leave those tasks out with --tasks."
        )
    return learnable, faults


def why_not_learnable(dataset: Dataset, task: Task) -> str:
    """Return why a task cannot be learnt and evaluated, with the fix; an empty text if it can."""
    fix = _FIXES.get(task.label, f"give data in which {task.label!r} is known")
    for split in SPLITS:
        rows, known = dataset.rows(split), dataset.known(task.label, split)
        if not len(known):
            return f"none of the {len(rows):,} {split} rows has a label {task.label!r}; {fix}"
        values = np.unique(dataset.labels[task.label][known])
        if split == "train" and len(values) < 2:
            only = task.classes[values[0]] if task.kind == "classes" else int(values[0])
            if len(np.unique(dataset.labels[task.label])) > len(values) + (UNKNOWN in dataset.labels[task.label]):
                fix = "other values come later only: give a log that has them earlier too, or split it otherwise"
            return f"all {len(known):,} labels {task.label!r} of the train rows are {only}, there is nothing to tell apart; {fix}"
    return ""
