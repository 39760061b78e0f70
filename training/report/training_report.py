"""The report of a training: `report.json` with every figure and curve, and `report.html`, rendered from it alone.

The page is self-contained (inline SVG and style). Since it needs only the JSON, an old report can be rendered again with the
charts of today.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from model.tasks import Task
from stream_app.evaluation import curves
from stream_app.reporting import charts
from stream_app.reporting.html import render_page
from stream_app.reporting.json_values import json_tree
from stream_app.reporting.provenance import origin
from training.evaluation.baselines import baselines_of
from training.evaluation.evaluate import Evaluation
from training.evaluation.metrics import higher_is_better
from training.report.results import step_time

_CONFUSED: Final = 15  # pairs of classes in the list

Charts = list[tuple[str, str]]  # captions and SVG


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """Content of a report of a run; its evaluation is on the test range.

    Attributes:
        floors: task -> `<way>_<metric>` -> value.
        epochs: records of the loop: `epoch`, `train` and `validation` (task -> loss), and where there are any `weights` (task ->
            weight), `gradient_cosine` ("a|b" -> cosine), `seconds`, `ms_per_step`.
        controls: way -> task -> metric -> value: other models on the same rows, such as LightGBM or single tasks.
        extra: anything else for `report.json`, such as the version of the artefact.
    """

    name: str
    tasks: Sequence[Task]
    evaluation: Evaluation
    floors: Mapping[str, Mapping[str, float]]
    epochs: Sequence[Mapping[str, Any]] = ()
    controls: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; NaN becomes None."""
        evaluation = self.evaluation
        content: dict[str, Any] = {
            "name": self.name,
            "tasks": [asdict(task) for task in self.tasks],
            "metrics": evaluation.metrics,
            "floors": self.floors,
            "controls": self.controls,
            "segments": evaluation.segments,
            "calibrations": {task: asdict(calibration) for task, calibration in evaluation.calibrations.items()},
            "curves": {name: _curves(evaluation, name) for name in evaluation.scored},
            "epochs": list(self.epochs),
            "config": self.config,
            "data": self.data,
            "command": self.command,
            "origin": origin(),
        }
        report: dict[str, Any] = json_tree(content | dict(self.extra))
        return report


def write_report(report: TrainingReport, folder: Path) -> Path:
    """Write `report.json` and `report.html` into `folder`, which is created, and return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    of_json = report.to_json()
    (folder / "report.json").write_text(json.dumps(of_json, indent=1, allow_nan=False) + "\n")
    page = folder / "report.html"
    page.write_text(html_from_json(of_json))
    return page


def html_from_json(report: Mapping[str, Any]) -> str:
    """Return the page of what `TrainingReport.to_json` returned."""
    epochs = report["epochs"]
    values = {
        "title": f"Training report: {report['name']}",
        "report": report,
        "facts": _facts(report),
        "figures": list(_figures(report)),
        "task_charts": {task["name"]: _task_charts(report, task) for task in report["tasks"]},
        "confused": {task["name"]: _confused(report, task) for task in report["tasks"]},
        "seconds": sum(epoch.get("seconds") or 0.0 for epoch in epochs),
        "step_ms": step_time(epochs),
        "training_charts": _training_charts(epochs),
        "config": json.dumps(report["config"], indent=1, ensure_ascii=False),
    }
    return render_page("training.report", "training.html", values, {"number": _number})


def _curves(evaluation: Evaluation, name: str) -> dict[str, Any]:
    split = evaluation.scored[name]
    if split.task.kind == "retrieval" or not len(split.labels):
        return {}
    points: dict[str, Any] = {
        "reliability": curves.reliability(split.calibrated, split.labels),
        "confusion": curves.confusion(split.calibrated, split.labels),
    }
    if split.task.kind == "binary" and 0 < split.labels.sum() < len(split.labels):
        points["roc"] = curves.roc_curve(split.raw, split.labels)
        points["precision_recall"] = curves.precision_recall_curve(split.raw, split.labels)
        points["prevalence"] = float(split.labels.mean())
    return points


def _facts(report: Mapping[str, Any]) -> dict[str, Any]:
    here = report["origin"]
    facts = {"command": report["command"], "commit": here["commit"], "machine": f"{here['machine']}, {here['cores']} cores"}
    return facts | {"date": here["date"], **report["data"]}


def _figures(report: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Yield (task, metric, value, verdict, baselines with the best first, value of each control)."""
    controls = report["controls"].values()
    for task, metrics in report["metrics"].items():
        for metric, value in metrics.items():
            known = baselines_of(report["floors"].get(task, {}), metric)
            baselines = sorted(known.items(), key=lambda each: each[1], reverse=higher_is_better(metric))
            verdict = _verdict(value, baselines[0][1] if baselines else None, metric)
            yield task, metric, value, verdict, baselines, [control.get(task, {}).get(metric) for control in controls]


def _verdict(value: float | None, baseline: float | None, metric: str) -> str:
    if value is None or baseline is None:
        return ""
    return "better" if (value > baseline) == higher_is_better(metric) and value != baseline else "worse"


def _task_charts(report: Mapping[str, Any], task: Mapping[str, Any]) -> Charts:
    name, rows = task["name"], []
    curve, metrics = report["curves"].get(name, {}), report["metrics"].get(name, {})
    if curve:
        rows.append(("Predicted and observed", charts.reliability(curve["reliability"])))
    if "roc" in curve:
        rows.append(("ROC", charts.roc(curve["roc"], metrics["auc"])))
        area = metrics["average_precision"]
        rows.append(("Precision and recall", charts.precision_recall(curve["precision_recall"], area, curve["prevalence"])))
    if curve:
        caption = "Predictions by label, shares of the label's rows"
        rows.append((caption, charts.confusion(curve["confusion"], task["classes"] or ["0", "1"])))
    if any(name in epoch.get("train", {}) for epoch in report["epochs"]):
        rows.append(("Learning", charts.learning(report["epochs"], name)))
    return rows


def _confused(report: Mapping[str, Any], task: Mapping[str, Any]) -> list[tuple[str, str, int, str]]:
    """Return the pairs of classes that are confused most often: label, prediction, rows, share of the label's rows."""
    classes, curve = task["classes"], report["curves"].get(task["name"], {})
    if not curve or len(classes) <= 2:
        return []
    counts = curve["confusion"]
    pairs = [(n, row, column) for row, line in enumerate(counts) for column, n in enumerate(line) if row != column and n]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    return [(classes[row], classes[column], n, f"{n / sum(counts[row]):.1%}") for n, row, column in pairs[:_CONFUSED]]


def _training_charts(epochs: Sequence[Mapping[str, Any]]) -> Charts:
    rows = []
    if epochs and len(epochs[-1].get("weights") or {}) > 1:
        rows.append(("Weights of the tasks", charts.task_weights(epochs)))
    cosines = [epoch["gradient_cosine"] for epoch in epochs if epoch.get("gradient_cosine")]
    if cosines:
        known = {pair: [each[pair] for each in cosines if each.get(pair) is not None] for pair in cosines[-1]}
        means = {pair: sum(values) / len(values) for pair, values in known.items() if values}
        names = list(dict.fromkeys(name for pair in means for name in pair.split("|")))
        caption = "Cosine between the tasks' gradients on shared parameters, mean over epochs: below 0 they pull apart"
        rows.append((caption, charts.gradient_cosines(means, names)))
    return rows


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.4f}"
