"""An order: what to train and on what, and the data set that follows from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from stream_app.errors import ConfigError
from training.config import TrainingConfig, config_from_tree
from training.data.dataset import Dataset, load_dataset, save_dataset
from training.data.sources import dataset_from
from training.data.splitting import resplit, splitting_from
from training.data.task_choice import choose_tasks
from training.fit.distributed import Group, refuse_torchrun

__all__ = ["TrainingJob", "dataset_of", "with_tasks"]

_OWN_SPLIT: Final = ("log", "simulation", "sequences")  # sources that split by the protocol themselves


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What to do.

    Attributes:
        config: everything that decides the outcome.
        folder: of the run.
        data: files that the source reads.
        kept: `.npz` file to keep the training set in, or to take it from.
        resplit: whether the protocol was chosen for this run, and splits also what a source has split in its own way.
        resume: whether to go on from the state in the folder.
        seeds: how many trainings, with seeds that follow each other.
        members: networks of each training, whose mean answer is judged.
        out: where the artefact goes; None = none is wanted.
        results: file of results to put the figures into, and the name they go by.
        name: see `results`.
        controls: what else to train on the same rows: `lightgbm`, `single` (each task alone).
        command: that a person would type to do this again.
    """

    config: TrainingConfig
    folder: Path
    data: tuple[Path, ...] = ()
    kept: Path | None = None
    resplit: bool = False
    resume: bool = False
    seeds: int = 1
    members: int = 1
    out: Path | None = None
    results: Path | None = None
    name: str = ""
    controls: tuple[str, ...] = ()
    command: str = ""


def dataset_of(order: TrainingJob, say: Callable[[str], None], group: Group | None = None) -> Dataset:
    """Return the training set, made or as it was kept.

    Args:
        order: says what of.
        say: told what is being done, one sentence at a time.
        group: the processes that train on it together; None for a command that trains in one.

    Raises:
        ConfigError: What was kept is of other files or settings; or torchrun started a command that trains in one process.
    """
    if group is None:
        refuse_torchrun("search and --folds")
    config, made_from = order.config, _made_from(order)
    if order.kept is not None and order.kept.exists():
        dataset = load_dataset(order.kept)
        if dataset.made_from != made_from:
            raise ConfigError(
                f"{order.kept} was made from {dataset.made_from or 'something else'}, and what is wanted now is {made_from}. "
                "Delete the file, it is made again; or name another one"
            )
        return dataset
    dataset = dataset_from(config.source, order.data, say, config.evaluation.protocol, config.training.tasks)
    if order.resplit and config.source.get("kind") not in _OWN_SPLIT:
        dataset = resplit(dataset, splitting_from(config.evaluation.protocol, {}))
    dataset = replace(dataset, made_from=made_from)
    if order.kept is not None and (group is None or group.leads):
        save_dataset(dataset, order.kept)
    return dataset


def _made_from(order: TrainingJob) -> str:
    folders = [sorted(path.iterdir()) if path.is_dir() else [path] for path in order.data]
    files = [[path.name, path.stat().st_size] for folder in folders for path in folder if path.is_file()]
    wanted = {"tasks": order.config.training.tasks, "protocol": order.config.evaluation.protocol}
    return json.dumps({"source": dict(order.config.source), "files": files, **wanted}, sort_keys=True, default=str)


def with_tasks(dataset: Dataset, config: TrainingConfig) -> tuple[Dataset, TrainingConfig, dict[str, str]]:
    """Return the data set with the tasks to train as they are configured, the configuration of those, and what others lack."""
    names, skipped = choose_tasks(dataset, config.training.tasks)
    chosen = config.changed({"training.tasks": list(names)}).chosen_tasks(dataset.tasks)
    tree = config.tree()
    tree["training"]["tasks"] = list(names)
    tree["tasks"] = {name: values for name, values in config.tasks.items() if name in names}
    return replace(dataset, tasks=chosen), config_from_tree(tree, config.name), skipped
