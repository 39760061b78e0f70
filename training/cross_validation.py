"""Many trainings on parts of one source, and the mean of their figures.

    [source.split] kind = "folds"   k-fold cross-validation: every fold is the test once
    [source] only = "each"          every scene alone, with its own part of the split: what scenes are worth that share nothing

Each is a training of its own: tokens, categories and scaling are learnt on its train rows. With `members` above 1 the answer is
that of so many networks together (`training.fit.ensemble`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from stream_app.errors import ConfigError
from stream_app.reporting.json_values import json_tree
from training.data.parsing.declared import plan_from_section, scenes_of
from training.data.sources.tables import TablePlan
from training.data.sources.texts import TextPlan
from training.evaluation.evaluate import Metrics
from training.fit.distillation import with_teacher
from training.jobs import TrainingJob, dataset_of, with_tasks
from training.outcome import outcome_of
from training.report.console import TrainingConsole
from training.report.results import add_rows, rows_from_metrics

__all__ = ["cross_validate"]


def cross_validate(order: TrainingJob, screen: TrainingConsole, members: int = 1) -> dict[str, Any]:
    """Train and judge every part; write the report `folds.json` into the run's folder, and the results where they are wanted.

    Args:
        order: as for `training.run.run`; its `seeds`, `out`, `resume` and `controls` are not looked at.
        screen: to tell a person.
        members: networks of each part, whose logits are averaged.

    Returns:
        name, folds, members, and task -> metric -> {mean, spread, folds}: what the command prints last.

    Raises:
        ConfigError: The source has neither folds nor scenes to train one by one.
    """
    found: list[Metrics] = []
    parts = _parts(order)
    for part in parts:
        screen.say(", ".join(f"{key} = {value}" for key, value in part.items()))
        config = order.config.changed(part)
        made = dataset_of(TrainingJob(config=config, folder=order.folder, data=order.data), screen.say)
        dataset, config, _ = with_tasks(made, config)
        dataset = with_teacher(dataset, dataset.tasks, config.training, screen.say)
        found.append(outcome_of(dataset, config, screen, members=members).judgement.metrics)
    name = order.name or f"{order.config.network.shape.sharing}, {members} network{'s' * (members > 1)} a part"
    short = {"name": name, "folds": len(parts), "members": members, "metrics": _over_folds(found)}
    order.folder.mkdir(parents=True, exist_ok=True)
    (order.folder / "folds.json").write_text(
        json.dumps(json_tree({**short, "of_folds": found}), indent=1, allow_nan=False) + "\n"
    )
    if order.results is not None:
        add_rows(order.results, rows_from_metrics(name, order.config.name, found, {}, order.command))
    return short


def _parts(order: TrainingJob) -> list[dict[str, Any]]:
    """Return for each training what it changes in the configuration."""
    source = dict(order.config.source)
    split = source.get("split", {})
    if source.get("only") == "each" and len(order.data) == 1:
        plan = plan_from_section(source, TextPlan if source.get("kind") == "text" else TablePlan)
        return [{"source.only": scene} for scene in scenes_of(order.data[0], plan)]
    if split.get("kind") == "folds":
        return [{"source.split.fold": fold} for fold in range(int(split.get("folds", 10)))]
    raise ConfigError(
        f"[source.split] kind is {split.get('kind', 'random')!r}, so there are no folds. Pass --set source.split.kind=folds, or "
        "--set source.only=each to train every scene of one --data alone"
    )


def _over_folds(found: Sequence[Metrics]) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        task: {
            metric: {
                "mean": fmean(each := [fold[task][metric] for fold in found]),
                "spread": stdev(each) if len(each) > 1 else 0.0,
                "folds": each,
            }
            for metric in metrics
        }
        for task, metrics in found[0].items()
    }
