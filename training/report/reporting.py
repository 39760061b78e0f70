"""What a run leaves behind: its report beside the floors, its artefact, its rows in the file of results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any, Final

from training.artifact import FinishedTraining, write_artifact
from training.data.dataset import SPLITS, UNKNOWN, Dataset
from training.evaluation.baselines import fit_baselines
from training.evaluation.evaluate import Metrics, not_beaten
from training.fit.loop import EpochReport
from training.jobs import TrainingJob
from training.outcome import TrainingOutcome, checkpoint_of, rule_of
from training.report.console import TrainingConsole
from training.report.result_row import ResultRow
from training.report.results import add_rows, default_name, rows_from_metrics, with_step_time
from training.report.training_report import TrainingReport, write_report

__all__ = ["reported"]

_IN_REPORT: Final = ("preset", "skipped", "beats_floors", "not_beaten", "seeds", "refused", "version", "bytes", "parity")


def reported(
    order: TrainingJob,
    dataset: Dataset,
    outcomes: Sequence[TrainingOutcome],
    controls: Mapping[str, Metrics],
    skipped: Mapping[str, str],
    screen: TrainingConsole,
) -> dict[str, Any]:
    """Write report, artefact and results of a run, as far as they are wanted; return the report's short form.

    Args:
        order: that was carried out.
        dataset: that was trained on.
        outcomes: of each seed.
        controls: what else was trained on the same rows -> its metrics.
        skipped: tasks that were left out, and what they lack.
        screen: to tell a person.
    """
    first, config = outcomes[0], order.config
    protocol = rule_of(config)
    floor = fit_baselines(dataset, protocol)
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
        evaluation=first.judgement,
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


def _rows(order: TrainingJob, ways: Mapping[str, Sequence[Metrics]], floor: Metrics) -> list[ResultRow]:
    config, found = order.config, []
    for way, of_seeds in ways.items():
        found += rows_from_metrics(way, config.name, of_seeds, floor, order.command, only=config.evaluation.metrics)
    return found


def _artefact(
    order: TrainingJob, dataset: Dataset, outcome: TrainingOutcome, short: Mapping[str, Any], *, refused: Sequence[str]
) -> dict[str, Any]:
    """Write the artefact where one is wanted and the network may be served; return what the report says of it."""
    if order.out is None:
        return {}
    if refused:
        return {"refused": f"no artefact is written to {order.out}: {'; '.join(refused)}. The report is in {order.folder}"}
    assert outcome.threshold is not None, "fraud is served, so it is trained"
    checkpoint = checkpoint_of(dataset, order.config, outcome)
    finished = FinishedTraining(checkpoint, outcome.threshold, short["metrics"], order.command, _described(dataset))
    manifest = write_artifact(finished, dataset, order.out)
    size = sum(file.stat().st_size for file in order.out.iterdir())
    return {"version": manifest.version, "bytes": size, "parity": manifest.metrics["onnx_largest_difference"]}


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
