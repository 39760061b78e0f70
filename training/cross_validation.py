"""Cross-validation: one training for each part of a source, and the mean of their metrics.

    [source.split] kind = "folds"   k-fold cross-validation: every fold is the test range once
    [source] only = "each"          every scene alone, with its own split: a comparison for networks that share scenes

Each training learns tokens, categories and scaling from its own train rows. With `members` above 1 each part trains an ensemble
(`training.outcome.Ensemble`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from stream_app.errors import ConfigError
from stream_app.reporting.json_values import json_tree
from training.data.parsing.labelled_rows import plan_from_section, scenes_of
from training.data.sources.tables import TablePlan
from training.data.sources.texts import TextPlan
from training.evaluation.evaluate import Metrics
from training.fit.distillation import with_soft_labels
from training.jobs import TrainingJob, apply_task_choice, build_dataset
from training.outcome import train_and_evaluate
from training.report.console import TrainingConsole
from training.report.results import add_rows, rows_from_metrics


def cross_validate(job: TrainingJob, console: TrainingConsole) -> dict[str, Any]:
    """Train and evaluate every part; write `folds.json` into the run's folder, and rows into `job.results` if it is set.

    `seeds`, `out`, `resume` and `controls` of the job are ignored.

    Returns:
        name, folds, members, and task -> metric -> {mean, spread, folds}, which the command prints.

    Raises:
        ConfigError: The source has neither folds nor single scenes.
    """
    metrics: list[Metrics] = []
    parts, members = _parts(job), job.members
    for part in parts:
        console.say(", ".join(f"{key} = {value}" for key, value in part.items()))
        config = job.config.changed(part)
        whole = build_dataset(TrainingJob(config=config, folder=job.folder, data=job.data), console.say)
        dataset, config, _ = apply_task_choice(whole, config)
        dataset = with_soft_labels(dataset, dataset.tasks, config.training, console.say)
        metrics.append(train_and_evaluate(dataset, config, console, members=members).evaluation.metrics)
    name = job.name or f"{job.config.network.shape.sharing}, {members} network{'s' * (members > 1)} a part"
    short = {"name": name, "folds": len(parts), "members": members, "metrics": _over_folds(metrics)}
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "folds.json").write_text(
        json.dumps(json_tree({**short, "of_folds": metrics}), indent=1, allow_nan=False) + "\n"
    )
    if job.results is not None:
        add_rows(job.results, rows_from_metrics(name, job.config.name, metrics, {}, job.command))
    return short


def _parts(job: TrainingJob) -> list[dict[str, Any]]:
    """Return the changes of the configuration for each training."""
    source = dict(job.config.source)
    split = source.get("split", {})
    if source.get("only") == "each" and len(job.data) == 1:
        plan = plan_from_section(source, TextPlan if source.get("kind") == "text" else TablePlan)
        return [{"source.only": scene} for scene in scenes_of(job.data[0], plan)]
    if split.get("kind") == "folds":
        return [{"source.split.fold": fold} for fold in range(int(split.get("folds", 10)))]
    raise ConfigError(
        f"[source.split] kind is {split.get('kind', 'random')!r}, so there are no folds. Pass --set source.split.kind=folds, or "
        "--set source.only=each to train every scene of one --data alone"
    )


def _over_folds(folds: Sequence[Metrics]) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        task: {
            metric: {
                "mean": fmean(values := [fold[task][metric] for fold in folds]),
                "spread": stdev(values) if len(values) > 1 else 0.0,
                "folds": values,
            }
            for metric in metrics
        }
        for task, metrics in folds[0].items()
    }
