"""One training from end to end: data set, network, evaluation beside its baselines, report, results, artefact.

The folder of the run holds the state to resume from, the checkpoint, `report.html` and `report.json`. With several seeds it has a
folder for each seed, and the report describes the first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from model.checkpoint import save_checkpoint
from model.inputs import SequenceInputs
from stream_app.errors import ConfigError
from training.artifact import check_artifact_folder, unservable_reason
from training.data.dataset import Dataset
from training.evaluation.controls import lightgbm_control, single_task_control
from training.evaluation.evaluate import Metrics, evaluate
from training.fit.distillation import with_soft_labels
from training.fit.distributed import ProcessGroup, process_group
from training.fit.loop import train
from training.jobs import TrainingJob, apply_task_choice, build_dataset
from training.outcome import TrainingOutcome, checkpoint_of, member_folder, protocol_of, train_and_evaluate
from training.report.console import TrainingConsole
from training.report.reporting import reported

CHECKPOINT_FILE: Final = "checkpoint.pt"


def run(job: TrainingJob, console: TrainingConsole) -> dict[str, Any]:
    """Carry out the job; return the short form of the report, which the command prints. Empty in all processes but the leader.

    Raises:
        ConfigError: The configuration, the files or the tasks do not fit together.
        ContractError: The data cannot be learnt from, or the cache or the state belongs to another training.
        InputFileError: A file cannot be read.
    """
    with process_group(job.config.training.device) as group:
        dataset, config, skipped = apply_task_choice(build_dataset(job, console.say, group), job.config)
        job = replace(job, config=config)
        for task, what in skipped.items():
            console.say(f"task {task} is left out: {what}")
        _check_job(job, dataset)
        dataset = with_soft_labels(dataset, dataset.tasks, config.training, console.say)  # one for all seeds and members
        outcomes = [_train_seed(job, dataset, seed, console, group) for seed in range(job.seeds)]
        controls = _train_controls(job, dataset, console, group)
        return reported(job, dataset, outcomes, controls, skipped, console) if group.is_leader else {}


def _check_job(job: TrainingJob, dataset: Dataset) -> None:
    """Refuse a job that would fail only after the training.

    Raises:
        ConfigError: The protocol cannot evaluate these rows, or no worker could serve the artefact.
    """
    retrieval = [task.name for task in dataset.tasks if task.kind == "retrieval"]
    if protocol_of(job.config).exclude_seen and retrieval and not isinstance(dataset.spec, SequenceInputs):
        raise ConfigError(
            f"the protocol {job.config.evaluation.protocol} leaves out the items that a user has had, and rows of "
            f"{type(dataset.spec).__name__} do not name them. Leave {', '.join(retrieval)} out (--tasks), or take another one"
        )
    if job.out is None:
        return
    isotonic = [task.name for task in dataset.tasks if task.calibration == "isotonic"]
    reasons = [unservable_reason(dataset, [task.name for task in dataset.tasks])]
    reasons += [f"isotonic calibration, of {', '.join(isotonic)}, is not served; use temperature" if isotonic else ""]
    reasons += ["several networks are not served; leave --members out" if job.members > 1 else ""]
    if any(reasons):
        listed = "; ".join(reason for reason in reasons if reason)
        raise ConfigError(f"--out {job.out}: {listed}. Without --out, checkpoint and report are written")
    check_artifact_folder(job.out)


def _train_seed(job: TrainingJob, dataset: Dataset, index: int, console: TrainingConsole, group: ProcessGroup) -> TrainingOutcome:
    """Train and evaluate with one seed, and save the checkpoint of each network."""
    seed = job.config.training.seed + index
    folder = job.folder if job.seeds == 1 else job.folder / f"seed-{seed}"
    config, members = job.config.changed({"training.seed": seed}), job.members
    title = "training" if job.seeds == members == 1 else ""
    outcome = train_and_evaluate(dataset, config, console, members=members, folder=folder, resume=job.resume, title=title)
    for member in range(members if group.is_leader else 0):
        path = member_folder(folder, member, members) / CHECKPOINT_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(checkpoint_of(dataset, config, outcome, member), path)
    return outcome


def _train_controls(job: TrainingJob, dataset: Dataset, console: TrainingConsole, group: ProcessGroup) -> dict[str, Metrics]:
    """Train the controls: networks in all processes, LightGBM in the leading one."""
    config, protocol = job.config, protocol_of(job.config)
    metrics: dict[str, Metrics] = {}

    def alone(one: Dataset) -> Metrics:
        with console.training(f"alone: {one.tasks[-1].name}") as callbacks:
            network = train(one, apply_task_choice(one, config.changed({"training.tasks": []}))[1], None, callbacks).network
        return evaluate(network, one, "test", protocol).metrics

    if "lightgbm" in job.controls and group.is_leader:
        console.say("training LightGBM on the same rows")
        metrics["lightgbm"] = lightgbm_control(dataset, protocol, config.training.seed)
    if "single" in job.controls:
        metrics["single task"] = single_task_control(dataset, alone)
    return metrics
