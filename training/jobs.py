"""A training job, and the data set that it trains on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from stream_app.errors import ConfigError
from training.config import TrainingConfig
from training.data.dataset import Dataset, load_dataset, save_dataset
from training.data.sources import dataset_from
from training.data.splitting import resplit, splitting_from
from training.data.task_choice import choose_tasks
from training.fit.distributed import ProcessGroup, refuse_torchrun

_OWN_SPLIT: Final = ("log", "simulation", "sequences")  # sources that split by the protocol themselves


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Configuration, files and options of a training.

    Attributes:
        folder: folder of the run.
        data: files that the source reads.
        cache: `.npz` file of the training set: read if it exists, else written.
        resplit: whether the protocol of the command line replaces the split of the source.
        resume: whether to continue from the state in `folder`.
        seeds: number of trainings, with consecutive seeds.
        members: number of networks in each training; their mean logits are evaluated.
        out: folder of the artefact; None = no artefact.
        results: file of results that receives the metrics.
        name: name of the rows in `results`.
        controls: models to train on the same rows for comparison: `lightgbm`, `single` (each task alone).
        command: command line that repeats the job.
    """

    config: TrainingConfig
    folder: Path
    data: tuple[Path, ...] = ()
    cache: Path | None = None
    resplit: bool = False
    resume: bool = False
    seeds: int = 1
    members: int = 1
    out: Path | None = None
    results: Path | None = None
    name: str = ""
    controls: tuple[str, ...] = ()
    command: str = ""


def build_dataset(job: TrainingJob, say: Callable[[str], None], group: ProcessGroup | None = None) -> Dataset:
    """Read the training set from the cache, or build it from its source.

    `group` are the processes that train on it together; None for a command that trains in one process.

    Raises:
        ConfigError: The cache was built from other files or settings; or torchrun started a command that trains in one process.
    """
    if group is None:
        refuse_torchrun("search and --folds")
    config, made_from = job.config, _origin(job)
    if job.cache is not None and job.cache.exists():
        dataset = load_dataset(job.cache)
        if dataset.made_from != made_from:
            raise ConfigError(
                f"{job.cache} was made from {dataset.made_from or 'an unknown source'}, and this training needs {made_from}. "
                "Delete the file, and it is made again; or name another one"
            )
        return dataset
    dataset = dataset_from(config.source, job.data, say, config.evaluation.protocol, config.training.tasks)
    if job.resplit and config.source.get("kind") not in _OWN_SPLIT:
        dataset = resplit(dataset, splitting_from(config.evaluation.protocol, {}))
    dataset = replace(dataset, made_from=made_from)
    if job.cache is not None and (group is None or group.is_leader):
        save_dataset(dataset, job.cache)
    return dataset


def _origin(job: TrainingJob) -> str:
    folders = [sorted(path.iterdir()) if path.is_dir() else [path] for path in job.data]
    files = [[path.name, path.stat().st_size] for folder in folders for path in folder if path.is_file()]
    options = {"tasks": job.config.training.tasks, "protocol": job.config.evaluation.protocol}
    return json.dumps({"source": dict(job.config.source), "files": files, **options}, sort_keys=True, default=str)


def apply_task_choice(dataset: Dataset, config: TrainingConfig) -> tuple[Dataset, TrainingConfig, dict[str, str]]:
    """Return the data set and the configuration with only the tasks to train, and why each other task is left out."""
    names, skipped = choose_tasks(dataset, config.training.tasks)
    config = config.changed({"training.tasks": list(names)})
    chosen = config.chosen_tasks(dataset.tasks)
    config = config.changed({"tasks": {name: values for name, values in config.tasks.items() if name in names}})
    return replace(dataset, tasks=chosen), config, skipped
