"""Which tasks a data set can teach: those whose labels are there, and differ.

Without a choice of the user's those are trained, and the others are named with what they lack. A task that was asked for and
cannot be learnt is an error that says what is missing and how to get it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from model.tasks import Task
from stream_app.errors import ConfigError, ContractError
from training.data.dataset import SPLITS, Dataset

__all__ = ["choose_tasks", "lacking"]

# What gives an event a label, by label; for anything else the source has to bring it.
_FIXES: Final = {
    "fraud": 'give the mapping a [[record]] with topic = "labels", task = "fraud" and value = the column that tells it',
    "intent": "give a log whose sessions end, with several events each, or labels of task intent",
    "next_action": "give a log in which users do several things (source.leave = true also asks whether they go)",
    "click": 'map views of items to action = "view" and what follows them to click, cart, favourite or an order',
    "conversion": 'map views of items to action = "view" and purchases to the topic orders',
    "next_item": 'map what users take to action = "click", "cart" or to orders, or set source.recommend = "next item"',
}


def choose_tasks(dataset: Dataset, named: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names of the tasks to train, and what the others lack.

    Args:
        dataset: what there is to learn from.
        named: what the user wants; empty for all that can be learnt.

    Raises:
        ConfigError: A task is named that there is not.
        ContractError: A task that is named cannot be learnt, or none can.
    """
    by_name = {task.name: task for task in dataset.tasks}
    strangers = [name for name in named if name not in by_name]
    if strangers:
        raise ConfigError(f"--tasks names {', '.join(strangers)}; this data set has the tasks {', '.join(by_name)}")
    missing = {name: lacking(dataset, by_name[name]) for name in (named or by_name)}
    for name, what in list(missing.items()):
        given = by_name[name].given
        if given and not what and (given not in missing or missing[given]):
            missing[name] = f"it is learnt over {given}, which is not trained: name {given} too, or give it labels"
    faults = {name: what for name, what in missing.items() if what}
    wanted = tuple(name for name in missing if name not in faults)
    if (named and faults) or not wanted:
        listed = "\n".join(f"  - task {name}: {what}" for name, what in faults.items())
        raise ContractError(
            f"{'Not all of the tasks' if wanted else 'No task'} can be learnt from the data:\n{listed}\n"
            "Operator action: give what is missing, or leave those tasks out with --tasks."
        )
    return wanted, faults


def lacking(dataset: Dataset, task: Task) -> str:
    """Return what keeps a task from being learnt and judged, with the fix; an empty text when nothing does."""
    fix = _FIXES.get(task.label, f"give data in which {task.label!r} is known")
    for split in SPLITS:
        rows, known = dataset.rows(split), dataset.known(task.label, split)
        if not len(known):
            return f"none of the {len(rows):,} {split} rows has a label {task.label!r}; {fix}"
        values = np.unique(dataset.labels[task.label][known])
        if split == "train" and len(values) < 2:
            only = task.classes[values[0]] if task.kind == "classes" else int(values[0])
            return f"all {len(known):,} labels {task.label!r} of the train rows are {only}, there is nothing to tell apart; {fix}"
    return ""
