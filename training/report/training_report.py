"""The report of a training: `report.json` with every figure and curve, and `report.html`, one file drawn from it alone.

The page asks nobody for anything: pictures are inline SVG, the style is inline too. It can be made again from the JSON, so a
report of long ago can be looked at with the pictures of today.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Final

from model.tasks import Task
from stream_app.evaluation import curves
from stream_app.reporting.html import html_page
from stream_app.reporting.json_values import plain
from stream_app.reporting.provenance import origin
from training.evaluation.baselines import ways_of
from training.evaluation.evaluate import Evaluation
from training.evaluation.metrics import higher_is_better
from training.report.plots import TrainingCharts
from training.report.results import step_time

__all__ = ["TrainingReport", "html_from_json", "write_report"]

_CONFUSED: Final = 15  # pairs of classes that are named


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What a report tells.

    Attributes:
        name: of the run.
        tasks: that were trained.
        judgement: on the test range.
        floors: task -> `<way>_<metric>` -> value.
        epochs: records of the loop: `epoch`, `train` and `validation` (task -> loss), and where there are any `weights` (task ->
            weight), `gradient_cosine` ("a|b" -> cosine), `seconds`, `ms_per_step`.
        controls: way -> task -> metric -> value: other models on the same rows, such as LightGBM or single tasks.
        config: the configuration, as plain values.
        data: what the data are, for a person.
        command: that was run.
        extra: anything else for `report.json`, such as the version of the artefact.
    """

    name: str
    tasks: Sequence[Task]
    judgement: Evaluation
    floors: Mapping[str, Mapping[str, float]]
    epochs: Sequence[Mapping[str, Any]] = ()
    controls: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values that JSON holds; what is not a number is None."""
        judged = self.judgement
        found: dict[str, Any] = {
            "name": self.name,
            "tasks": [asdict(task) for task in self.tasks],
            "metrics": judged.metrics,
            "floors": self.floors,
            "controls": self.controls,
            "segments": judged.segments,
            "calibrations": {task: calibration.to_json() for task, calibration in judged.calibrations.items()},
            "curves": {name: _curves(judged, name) for name in judged.scored},
            "epochs": list(self.epochs),
            "config": self.config,
            "data": self.data,
            "command": self.command,
            "origin": origin(),
        }
        of_json: dict[str, Any] = plain(found | dict(self.extra))
        return of_json


def write_report(report: TrainingReport, folder: Path) -> Path:
    """Write `report.json` and `report.html` into `folder`, which is made, and return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    of_json = report.to_json()
    (folder / "report.json").write_text(json.dumps(of_json, indent=1, allow_nan=False) + "\n")
    page = folder / "report.html"
    page.write_text(html_from_json(of_json))
    return page


def html_from_json(report: Mapping[str, Any]) -> str:
    """Return the page of what `TrainingReport.to_json` returned."""
    pictures = TrainingCharts()
    body = [f"<h1>{escape(str(report['name']))}</h1>", _facts(report), "<h2>Figures</h2>", _figures(report)]
    body += [_of_task(report, task, pictures) for task in report["tasks"]]
    body += [_learning(report, pictures), _segments(report), _settings(report)]
    return html_page(f"Training report: {report['name']}", body)


def _curves(judged: Evaluation, name: str) -> dict[str, Any]:
    asked = judged.scored[name]
    if asked.task.kind == "retrieval" or not len(asked.labels):
        return {}
    found: dict[str, Any] = {
        "reliability": curves.reliability(asked.says, asked.labels),
        "confusion": curves.confusion(asked.says, asked.labels),
    }
    if asked.task.kind == "binary" and 0 < asked.labels.sum() < len(asked.labels):
        found["roc"] = curves.roc_curve(asked.raw, asked.labels)
        found["precision_recall"] = curves.precision_recall_curve(asked.raw, asked.labels)
        found["prevalence"] = float(asked.labels.mean())
    return found


def _facts(report: Mapping[str, Any]) -> str:
    here = report["origin"]
    facts = {"command": report["command"], "commit": here["commit"], "machine": f"{here['machine']}, {here['cores']} cores"}
    facts |= {"date": here["date"], **report["data"]}
    return "<dl>" + "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items()) + "</dl>"


def _figures(report: Mapping[str, Any]) -> str:
    """Return one table of all metrics, with the floors, best first, and each control beside."""
    controls = report["controls"]
    rows = ["<tr><th>task</th><th>metric</th><th class=n>value</th><th>against the best floor</th><th>floors</th>"]
    rows[0] += "".join(f"<th class=n>{escape(way)}</th>" for way in controls) + "</tr>"
    for task, metrics in report["metrics"].items():
        for metric, value in metrics.items():
            floors = _floors_of(report["floors"].get(task, {}), metric)
            word = _word(value, floors[0][1] if floors else None, metric)
            listed = "; ".join(f"{way.replace('_', ' ')} {_number(floor)}" for way, floor in floors)
            beside = "".join(f"<td class=n>{_number(controls[c].get(task, {}).get(metric))}</td>" for c in controls)
            rows.append(
                f"<tr><td>{escape(task)}</td><td>{escape(metric)}</td><td class=n>{_number(value)}</td>"
                f"<td class={word or 'none'}>{word}</td><td>{escape(listed)}</td>{beside}</tr>"
            )
    return f"<div class=wide><table>{''.join(rows)}</table></div>"


def _floors_of(floors: Mapping[str, float | None], metric: str) -> list[tuple[str, float]]:
    """Return (way, floor) of a metric, the best first."""
    return sorted(ways_of(floors, metric).items(), key=lambda way: way[1], reverse=higher_is_better(metric))


def _word(value: float | None, floor: float | None, metric: str) -> str:
    if value is None or floor is None:
        return ""
    return "better" if (value > floor) == higher_is_better(metric) and value != floor else "worse"


def _of_task(report: Mapping[str, Any], task: Mapping[str, Any], pictures: TrainingCharts) -> str:
    drawn, name = report["curves"].get(task["name"], {}), task["name"]
    metrics, parts = report["metrics"].get(name, {}), []
    if drawn:
        parts.append(("What it claims and what happens", pictures.reliability(drawn["reliability"])))
    if "roc" in drawn:
        parts.append(("ROC", pictures.roc(drawn["roc"], metrics["auc"])))
        area = metrics["average_precision"]
        parts.append(("Precision and recall", pictures.precision_recall(drawn["precision_recall"], area, drawn["prevalence"])))
    classes = task["classes"] or ["0", "1"]
    if drawn:
        parts.append(("Answers by label, shares of the label's rows", pictures.confusion(drawn["confusion"], classes)))
    if any(name in epoch.get("train", {}) for epoch in report["epochs"]):
        parts.append(("Learning", pictures.learning(report["epochs"], name)))
    figures = "".join(f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for caption, svg in parts)
    pairs = _confused(drawn["confusion"], classes) if drawn and len(classes) > 2 else ""
    return f"<h2>{escape(name)}</h2><div class=pictures>{figures}</div>{pairs}"


def _confused(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Name the pairs of classes that are confused most often."""
    pairs = [(n, row, column) for row, line in enumerate(counts) for column, n in enumerate(line) if row != column and n]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    rows = "".join(
        f"<tr><td>{escape(classes[row])}</td><td>{escape(classes[column])}</td><td class=n>{n}</td>"
        f"<td class=n>{n / sum(counts[row]):.1%}</td></tr>"
        for n, row, column in pairs[:_CONFUSED]
    )
    head = "<tr><th>label</th><th>answered</th><th class=n>rows</th><th class=n>of the label</th></tr>"
    return f"<h3>Confused most often</h3><table>{head}{rows}</table>" if rows else ""


def _learning(report: Mapping[str, Any], pictures: TrainingCharts) -> str:
    epochs, parts = report["epochs"], []
    if epochs and len(epochs[-1].get("weights") or {}) > 1:
        parts.append(("Weights of the tasks", pictures.weights(epochs)))
    cosines = [epoch["gradient_cosine"] for epoch in epochs if epoch.get("gradient_cosine")]
    if cosines:
        known = {pair: [each[pair] for each in cosines if each.get(pair) is not None] for pair in cosines[-1]}
        means = {pair: sum(values) / len(values) for pair, values in known.items() if values}
        names = list(dict.fromkeys(name for pair in means for name in pair.split("|")))
        caption = "Cosine between the tasks' gradients on what they share, mean over epochs: below 0 they pull apart"
        parts.append((caption, pictures.conflict(means, names)))
    if not epochs:
        return ""
    figures = "".join(f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for caption, svg in parts)
    seconds = sum(epoch.get("seconds") or 0.0 for epoch in epochs)
    step = step_time(epochs)
    said = f"{len(epochs)} epochs in {seconds:,.0f} s{'' if step is None else f', {step:,.1f} ms a step'}."
    return f"<h2>Training</h2><p>{said}</p><div class=pictures>{figures}</div>"


def _segments(report: Mapping[str, Any]) -> str:
    """Return a table of each task's own metric by segment."""
    deciding = {task["name"]: task["metric"] for task in report["tasks"]}
    if not report["segments"]:
        return ""
    head = "".join(f"<th class=n>{escape(f'{task} {metric}')}</th>" for task, metric in deciding.items())
    rows = "".join(
        f"<tr><td>{escape(segment)}</td>"
        + "".join(f"<td class=n>{_number(of.get(task, {}).get(metric))}</td>" for task, metric in deciding.items())
        + "</tr>"
        for segment, of in report["segments"].items()
    )
    return f"<h2>By segment</h2><div class=wide><table><tr><th>segment</th>{head}</tr>{rows}</table></div>"


def _settings(report: Mapping[str, Any]) -> str:
    settings = json.dumps(report["config"], indent=1, ensure_ascii=False)
    return f"<h2>Configuration</h2><pre>{escape(settings)}</pre>" if report["config"] else ""


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.4f}"
