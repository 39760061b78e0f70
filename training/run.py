"""One training from end to end: source, data set, network, judgement beside its floors, report, results, artefact.

Everything of a run goes into its folder: the state to resume from, the checkpoint, `report.html` and `report.json`. With several
seeds each has a folder of its own in it, and the report is of the first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import torch

from model.checkpoint import Checkpoint
from model.inputs import SequenceInputs
from model.network import MultiTaskNetwork
from stream_app.errors import ConfigError
from training.artifact import Finished, check_target, keep_checkpoint, missing_tasks, write_artifact
from training.config import TrainingConfig, config_from_tree
from training.controls import lightgbm_control, single_task_control
from training.dataset import SPLITS, UNKNOWN, Dataset, load_dataset, save_dataset
from training.distributed import Group, joined, refuse_torchrun
from training.ensemble import together
from training.evaluate import Judgement, choose_threshold, judge, not_beaten
from training.floors import floors
from training.loop import EpochReport, Trained, train
from training.protocol import Protocol, protocol_named
from training.report import TrainingReport, write_report
from training.results import ResultRow, add_rows, default_name, rows_from_metrics, with_step_time
from training.screen import Screen
from training.sources import dataset_from
from training.splitting import resplit, splitting_from
from training.task_choice import choose_tasks

__all__ = ["Order", "dataset_of", "run", "with_tasks"]

_MOST_MEMBERS: Final = 1_000
CHECKPOINT_FILE: Final = "checkpoint.pt"
_OWN_SPLIT: Final = ("log", "simulation", "sequences")  # sources that split by the protocol themselves

_IN_REPORT: Final = ("preset", "skipped", "beats_floors", "not_beaten", "seeds", "refused", "version", "bytes", "parity")

Metrics = dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to do.

    Attributes:
        config: everything that decides the outcome.
        folder: of the run.
        data: files that the source reads.
        kept: `.npz` file to keep the training set in, or to take it from.
        resplit: whether the protocol was chosen for this run, and splits also what a source has split in its own way.
        resume: whether to go on from the state in the folder.
        seeds: how many trainings, with seeds that follow each other.
        members: networks of each training, whose mean answer is judged; of several, seed s has s * 1000, s * 1000 + 1, ...
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


@dataclass(frozen=True)
class _Outcome:
    """What one seed came to: one trained network, or several whose mean answer was judged."""

    trained: list[Trained]
    judgement: Judgement
    threshold: float | None


def run(order: Order, screen: Screen) -> dict[str, Any]:
    """Do it, and return the report's short form: what the command prints last. Empty in processes that do not lead.

    Raises:
        ConfigError: The configuration, the files or the tasks do not fit together.
        ContractError: Nothing can be learnt from the data, or a kept set or state is of another training.
        InputFileError: A file cannot be read.
    """
    with joined(order.config.training.device) as group:
        dataset, config, skipped = with_tasks(dataset_of(order, screen, group), order.config)
        order = replace(order, config=config)
        for task, what in skipped.items():
            screen.say(f"task {task} is left out: {what}")
        _refuse_beforehand(order, dataset)
        outcomes = [_outcome(order, dataset, seed, screen, group) for seed in range(order.seeds)]
        controls = _controls(order, dataset, screen, group)
        return _reported(order, dataset, outcomes, controls, skipped, screen) if group.leads else {}


def _refuse_beforehand(order: Order, dataset: Dataset) -> None:
    """Refuse what cannot come to its end, before it costs a training.

    Raises:
        ConfigError: Rows that the protocol cannot judge, or an artefact that no worker could serve.
    """
    retrieval = [task.name for task in dataset.tasks if task.kind == "retrieval"]
    if _rule(order.config).exclude_seen and retrieval and not isinstance(dataset.spec, SequenceInputs):
        raise ConfigError(
            f"the protocol {order.config.evaluation.protocol} leaves out the items that a user has had, and rows of "
            f"{type(dataset.spec).__name__} do not say which. Leave {', '.join(retrieval)} out (--tasks), or take another one"
        )
    if order.out is None:
        return
    curved = [task.name for task in dataset.tasks if task.calibration == "isotonic"]
    reason = missing_tasks(dataset, [task.name for task in dataset.tasks])
    reason = reason or (f"isotonic calibration, of {', '.join(curved)}, is not served; use temperature" if curved else "")
    reason = reason or ("several networks together are not served; leave --members out" if order.members > 1 else "")
    if reason:
        raise ConfigError(f"--out {order.out}: {reason}. Without --out, checkpoint and report are written")
    check_target(order.out)


def dataset_of(order: Order, screen: Screen, group: Group | None = None) -> Dataset:
    """Return the training set, made or as it was kept.

    Args:
        order: says what of.
        screen: to tell a person.
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
    dataset = dataset_from(config.source, order.data, screen.say, config.evaluation.protocol, config.training.tasks)
    if order.resplit and config.source.get("kind") not in _OWN_SPLIT:
        dataset = resplit(dataset, splitting_from(config.evaluation.protocol, {}))
    dataset = replace(dataset, made_from=made_from)
    if order.kept is not None and (group is None or group.leads):
        save_dataset(dataset, order.kept)
    return dataset


def _made_from(order: Order) -> str:
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


def _outcome(order: Order, dataset: Dataset, number: int, screen: Screen, group: Group) -> _Outcome:
    """Train with one seed, judge, and keep the checkpoint."""
    seed = order.config.training.seed + number
    folder = order.folder if order.seeds == 1 else order.folder / f"seed-{seed}"
    trained = []
    for member in range(order.members):
        own_seed = seed if order.members == 1 else seed * _MOST_MEMBERS + member
        place = folder if order.members == 1 else folder / f"member-{member}"
        config = order.config.changed({"training.seed": own_seed})
        with screen.training("training" if order.seeds == order.members == 1 else f"seed {own_seed}") as events:
            trained.append(train(dataset, config, place, events, resume=order.resume))
    network = together([each.network for each in trained])
    judgement, threshold = _judged(network, dataset, order.config)
    for member, each in enumerate(trained if group.leads else []):
        place = folder if order.members == 1 else folder / f"member-{member}"
        keep_checkpoint(_checkpoint(order, dataset, each, judgement), place / CHECKPOINT_FILE)
    return _Outcome(trained, judgement, threshold)


def _checkpoint(order: Order, dataset: Dataset, trained: Trained, judgement: Judgement) -> Checkpoint:
    """Return the network with all that belongs to it; the temperatures of an ensemble are not those of its members."""
    temperatures = {name: each.temperature for name, each in judgement.calibrations.items()} if order.members == 1 else {}
    names, catalogue = list(dataset.feature_names), dataset.catalogue_hash
    return Checkpoint(trained.network, order.config.network.preset, names, catalogue, temperatures)


def _rule(config: TrainingConfig) -> Protocol:
    return protocol_named(config.evaluation.protocol, config.evaluation.neighbour_weight)


def _judged(network: MultiTaskNetwork, dataset: Dataset, config: TrainingConfig) -> tuple[Judgement, float | None]:
    """Return what the network is worth on the test range, and the threshold of alerts; both from the validation range."""
    protocol = _rule(config)
    held = judge(network, dataset, "validation", protocol)
    threshold = None
    if any(task.name == "fraud" for task in network.tasks):
        threshold = choose_threshold(network, dataset, config.evaluation.alert_precision, calibrations=held.calibrations)
    thresholds = {} if threshold is None else {"fraud": threshold}
    return judge(network, dataset, "test", protocol, held.calibrations, thresholds), threshold


def _reported(
    order: Order,
    dataset: Dataset,
    outcomes: Sequence[_Outcome],
    controls: Mapping[str, Metrics],
    skipped: Mapping[str, str],
    screen: Screen,
) -> dict[str, Any]:
    first, config = outcomes[0], order.config
    protocol = _rule(config)
    floor = floors(dataset, protocol)
    metrics = first.judgement.metrics
    worse = not_beaten(metrics, floor, dataset.tasks)
    short: dict[str, Any] = {
        "name": order.name or config.name,
        "preset": config.network.preset,
        "events": len(dataset),
        "epochs": len(first.trained[0].history),
        "tasks": [task.name for task in dataset.tasks],
        "skipped": dict(skipped),
        "metrics": {task: _beside(values, floor.get(task, {})) for task, values in metrics.items()},
        "beats_floors": not worse,
        "not_beaten": worse,
    }
    if len(outcomes) > 1:
        short["seeds"] = _of_seeds([outcome.judgement.metrics for outcome in outcomes])
    short |= _artefact(order, dataset, first, short, refused=worse)
    report = TrainingReport(
        name=str(short["name"]),
        tasks=dataset.tasks,
        judgement=first.judgement,
        floors=floor,
        epochs=[_epoch(each) for each in first.trained[0].history],
        controls=controls,
        config=config.tree(),
        data={**_described(dataset), **dataset.notes},
        command=order.command,
        extra={key: short[key] for key in _IN_REPORT if key in short},
    )
    short["report"] = str(write_report(report, order.folder))
    if order.results is not None:
        of_seeds = [with_step_time(each.judgement.metrics, map(_epoch, each.trained[0].history)) for each in outcomes]
        name = order.name or default_name(config.network.shape.sharing, config.evaluation.neighbour_weight)
        add_rows(order.results, _rows(order, {name: of_seeds}, floor))
        add_rows(order.results, _rows(order, {f"{way} (control)": [found] for way, found in controls.items()}, floor))
    screen.figures(dataset.tasks, metrics, floor)
    return short


def _rows(order: Order, ways: Mapping[str, Sequence[Metrics]], floor: Metrics) -> list[ResultRow]:
    config, found = order.config, []
    for way, of_seeds in ways.items():
        found += rows_from_metrics(way, config.name, of_seeds, floor, order.command, only=config.evaluation.metrics)
    return found


def _artefact(
    order: Order, dataset: Dataset, outcome: _Outcome, short: Mapping[str, Any], *, refused: Sequence[str]
) -> dict[str, Any]:
    """Write the artefact where one is wanted and the network may be served; return what the report says of it."""
    if order.out is None:
        return {}
    if refused:
        return {"refused": f"no artefact is written to {order.out}: {'; '.join(refused)}. The report is in {order.folder}"}
    trained = outcome.trained[0]
    assert outcome.threshold is not None, "fraud is served, so it is trained"
    checkpoint = _checkpoint(order, dataset, trained, outcome.judgement)
    finished = Finished(checkpoint, outcome.threshold, short["metrics"], order.command, _described(dataset))
    manifest = write_artifact(finished, dataset, order.out)
    size = sum(file.stat().st_size for file in order.out.iterdir())
    return {"version": manifest.version, "bytes": size, "parity": manifest.metrics["onnx_largest_difference"]}


def _controls(order: Order, dataset: Dataset, screen: Screen, group: Group) -> dict[str, Metrics]:
    """Train what else is wanted: networks in all processes, LightGBM in the leading one."""
    config, protocol = order.config, _rule(order.config)
    found: dict[str, Metrics] = {}

    def alone(one: Dataset) -> Metrics:
        with screen.training(f"alone: {one.tasks[-1].name}") as events:
            network = train(one, with_tasks(one, config.changed({"training.tasks": []}))[1], None, events).network
        return judge(network, one, "test", protocol).metrics

    if "lightgbm" in order.controls and group.leads:
        screen.say("training LightGBM on the same rows")
        found["lightgbm"] = lightgbm_control(dataset, protocol, config.training.seed)
    if "single" in order.controls:
        found["single task"] = single_task_control(dataset, alone)
    return found


def _beside(metrics: Mapping[str, float], floor: Mapping[str, float]) -> dict[str, float]:
    return {**metrics, **{f"floor_{name}": value for name, value in floor.items()}}


def _of_seeds(metrics: Sequence[Metrics]) -> dict[str, dict[str, list[float]]]:
    """Return task -> metric -> [mean, value of each seed ...]."""
    return {
        task: {name: [fmean(seed[task][name] for seed in metrics), *(seed[task][name] for seed in metrics)] for name in values}
        for task, values in metrics[0].items()
    }


def _epoch(report: EpochReport) -> dict[str, Any]:
    record = asdict(report)
    return record | {"gradient_cosine": record.pop("conflict")}


def _described(dataset: Dataset) -> dict[str, str]:
    """Return what the data are, for a person."""
    frauds = int((dataset.labels["fraud"] == 1).sum()) if "fraud" in dataset.labels else 0
    rows = ", ".join(f"{len(dataset.rows(split)):,} {split}" for split in SPLITS)
    known = {task.name: int((dataset.labels[task.label] != UNKNOWN).sum()) for task in dataset.tasks}
    source = json.loads(dataset.made_from) if dataset.made_from else {}
    files = ", ".join(name for name, _ in source.get("files", []))
    return {
        "events": f"{len(dataset):,}" + (f" ({frauds:,} known frauds)" if frauds else ""),
        "source": files or f"simulated shops ({'; '.join(dataset.segments)})",
        "split": rows,
        "known labels": ", ".join(f"{name} {count:,}" for name, count in known.items()),
    }


def set_threads(threads: int) -> None:
    """Set how many threads torch computes with."""
    torch.set_num_threads(threads)
