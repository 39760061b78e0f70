"""What a run leaves behind: its report beside the floors, its artefact, its rows in the file of results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any, Final

from training.artifact import ArtifactContents, write_artifact
from training.data.dataset import SPLITS, UNKNOWN, Dataset
from training.evaluation.baselines import fit_baselines
from training.evaluation.evaluate import Metrics, not_beaten
from training.fit.progress import EpochReport
from training.jobs import TrainingJob
from training.outcome import TrainingOutcome, checkpoint_of, protocol_of
from training.report.console import TrainingConsole
from training.report.results import add_rows, default_name, rows_from_metrics, with_step_time
from training.report.training_report import TrainingReport, write_report

_IN_REPORT: Final = ("preset", "skipped", "beats_floors", "not_beaten", "seeds", "refused", "version", "bytes", "parity")


def reported(
    job: TrainingJob,
    dataset: Dataset,
    outcomes: Sequence[TrainingOutcome],
    controls: Mapping[str, Metrics],
    skipped: Mapping[str, str],
    console: TrainingConsole,
) -> dict[str, Any]:
    """Write report, artefact and results of a run, as the job asks for; return the report's short form.

    `outcomes` has one outcome for each seed, `controls` the metrics of each control, `skipped` a reason for each task left out.
    """
    first, config = outcomes[0], job.config
    protocol = protocol_of(config)
    floor = fit_baselines(dataset, protocol)
    metrics = first.evaluation.metrics
    worse = not_beaten(metrics, floor, dataset.tasks)
    named_floors = {task: {f"floor_{way}": value for way, value in values.items()} for task, values in floor.items()}
    short: dict[str, Any] = {
        "name": job.name or config.name,
        "preset": config.network.preset,
        "events": len(dataset),
        "epochs": len(first.trained[0].history),
        "tasks": [task.name for task in dataset.tasks],
        "skipped": dict(skipped),
        "metrics": {task: values | named_floors.get(task, {}) for task, values in metrics.items()},
        "beats_floors": not worse,
        "not_beaten": worse,
    }
    if len(outcomes) > 1:
        short["seeds"] = _of_seeds([outcome.evaluation.metrics for outcome in outcomes])
    short |= _artefact(job, dataset, first, short, refused=worse)
    report = TrainingReport(
        name=str(short["name"]),
        tasks=dataset.tasks,
        evaluation=first.evaluation,
        floors=floor,
        epochs=[_epoch(each) for each in first.trained[0].history],
        controls=controls,
        config=config.tree(),
        data={**_described(dataset), **dataset.notes},
        command=job.command,
        extra={key: short[key] for key in _IN_REPORT if key in short},
    )
    short["report"] = str(write_report(report, job.folder))
    if job.results is not None:
        of_seeds = [with_step_time(each.evaluation.metrics, map(_epoch, each.trained[0].history)) for each in outcomes]
        name = job.name or default_name(config.network.shape.sharing, config.evaluation.neighbour_weight)
        ways = {name: of_seeds} | {f"{way} (control)": [control] for way, control in controls.items()}
        for way, values in ways.items():
            rows = rows_from_metrics(way, config.name, values, floor, job.command, only=config.evaluation.metrics)
            add_rows(job.results, rows)
    console.figures(dataset.tasks, metrics, floor)
    return short


def _artefact(
    job: TrainingJob, dataset: Dataset, outcome: TrainingOutcome, short: Mapping[str, Any], *, refused: Sequence[str]
) -> dict[str, Any]:
    """Write the artefact if the job asks for one and nothing refuses it; return its part of the report."""
    if job.out is None:
        return {}
    if refused:
        return {"refused": f"no artefact is written to {job.out}: {'; '.join(refused)}. The report is in {job.folder}"}
    assert outcome.threshold is not None, "fraud is served, so it is trained"
    checkpoint = checkpoint_of(dataset, job.config, outcome)
    finished = ArtifactContents(checkpoint, outcome.threshold, short["metrics"], job.command, _described(dataset))
    manifest = write_artifact(finished, dataset, job.out)
    size = sum(file.stat().st_size for file in job.out.iterdir())
    return {"version": manifest.version, "bytes": size, "parity": manifest.metrics["onnx_largest_difference"]}


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
    """Return a description of the data."""
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
