"""One training from end to end: source, data set, network, judgement beside its floors, report, results, artefact.

Everything of a run goes into its folder: the state to resume from, the checkpoint, `report.html` and `report.json`. With several
seeds each has a folder of its own in it, and the report is of the first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import torch

from model.inputs import SequenceInputs
from stream_app.errors import ConfigError
from training.artifact import check_target, keep_checkpoint, missing_tasks
from training.data.dataset import Dataset
from training.evaluation.controls import lightgbm_control, single_task_control
from training.evaluation.evaluate import Metrics, evaluate
from training.fit.distillation import with_teacher
from training.fit.distributed import Group, joined
from training.fit.loop import train
from training.jobs import TrainingJob, dataset_of, with_tasks
from training.outcome import TrainingOutcome, checkpoint_of, outcome_of, place_of, rule_of
from training.report.console import TrainingConsole
from training.report.reporting import reported

__all__ = ["run", "set_threads"]

CHECKPOINT_FILE: Final = "checkpoint.pt"


def run(order: TrainingJob, screen: TrainingConsole) -> dict[str, Any]:
    """Do it, and return the report's short form: what the command prints last. Empty in processes that do not lead.

    Raises:
        ConfigError: The configuration, the files or the tasks do not fit together.
        ContractError: Nothing can be learnt from the data, or a kept set or state is of another training.
        InputFileError: A file cannot be read.
    """
    with joined(order.config.training.device) as group:
        dataset, config, skipped = with_tasks(dataset_of(order, screen.say, group), order.config)
        order = replace(order, config=config)
        for task, what in skipped.items():
            screen.say(f"task {task} is left out: {what}")
        _refuse_beforehand(order, dataset)
        dataset = with_teacher(dataset, dataset.tasks, config.training, screen.say)  # one for all seeds and members
        outcomes = [_outcome(order, dataset, seed, screen, group) for seed in range(order.seeds)]
        controls = _controls(order, dataset, screen, group)
        return reported(order, dataset, outcomes, controls, skipped, screen) if group.leads else {}


def _refuse_beforehand(order: TrainingJob, dataset: Dataset) -> None:
    """Refuse what cannot come to its end, before it costs a training.

    Raises:
        ConfigError: Rows that the protocol cannot judge, or an artefact that no worker could serve.
    """
    retrieval = [task.name for task in dataset.tasks if task.kind == "retrieval"]
    if rule_of(order.config).exclude_seen and retrieval and not isinstance(dataset.spec, SequenceInputs):
        raise ConfigError(
            f"the protocol {order.config.evaluation.protocol} leaves out the items that a user has had, and rows of "
            f"{type(dataset.spec).__name__} do not say which. Leave {', '.join(retrieval)} out (--tasks), or take another one"
        )
    if order.out is None:
        return
    curved = [task.name for task in dataset.tasks if task.calibration == "isotonic"]
    reasons = [missing_tasks(dataset, [task.name for task in dataset.tasks])]
    reasons += [f"isotonic calibration, of {', '.join(curved)}, is not served; use temperature" if curved else ""]
    reasons += ["several networks together are not served; leave --members out" if order.members > 1 else ""]
    if any(reasons):
        listed = "; ".join(reason for reason in reasons if reason)
        raise ConfigError(f"--out {order.out}: {listed}. Without --out, checkpoint and report are written")
    check_target(order.out)


def _outcome(order: TrainingJob, dataset: Dataset, number: int, screen: TrainingConsole, group: Group) -> TrainingOutcome:
    """Train with one seed, judge, and keep the checkpoint of each network."""
    seed = order.config.training.seed + number
    folder = order.folder if order.seeds == 1 else order.folder / f"seed-{seed}"
    config, members = order.config.changed({"training.seed": seed}), order.members
    title = "training" if order.seeds == members == 1 else ""
    outcome = outcome_of(dataset, config, screen, members=members, folder=folder, resume=order.resume, title=title)
    for member in range(members if group.leads else 0):
        kept = checkpoint_of(dataset, config, outcome, member)
        keep_checkpoint(kept, place_of(folder, member, members) / CHECKPOINT_FILE)
    return outcome


def _controls(order: TrainingJob, dataset: Dataset, screen: TrainingConsole, group: Group) -> dict[str, Metrics]:
    """Train what else is wanted: networks in all processes, LightGBM in the leading one."""
    config, protocol = order.config, rule_of(order.config)
    found: dict[str, Metrics] = {}

    def alone(one: Dataset) -> Metrics:
        with screen.training(f"alone: {one.tasks[-1].name}") as events:
            network = train(one, with_tasks(one, config.changed({"training.tasks": []}))[1], None, events).network
        return evaluate(network, one, "test", protocol).metrics

    if "lightgbm" in order.controls and group.leads:
        screen.say("training LightGBM on the same rows")
        found["lightgbm"] = lightgbm_control(dataset, protocol, config.training.seed)
    if "single" in order.controls:
        found["single task"] = single_task_control(dataset, alone)
    return found


def set_threads(threads: int) -> None:
    """Set how many threads torch computes with."""
    torch.set_num_threads(threads)
