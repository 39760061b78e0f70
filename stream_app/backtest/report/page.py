"""The page of a backtest, rendered from its `report.json` alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from stream_app.backtest.report.number_formats import direction, duration, number, share, threshold
from stream_app.reporting import charts
from stream_app.reporting.html import render_page

FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "direction": direction,
    "duration": duration,
    "number": number,
    "share": share,
    "threshold": threshold,
}

_CLASSES: Final = {"intent": "Intent", "next_action": "Next action"}

Tree = Mapping[str, Any]
Charts = list[tuple[str, str]]


def html_from_json(report: Tree) -> str:
    """Return the page of what `write_report` returned."""
    contenders = report["candidates"]
    fraud = {name: figures for name, figures in contenders.items() if "average_precision" in figures}
    classes = {title: _evaluated(contenders, task) for task, title in _CLASSES.items()}
    values = {
        "title": f"Backtest: {report['name']}",
        "report": report,
        "facts": _facts(report),
        "columns": [report["versions"], *(column for column in (report["catalogues"], report["notes"]) if column)],
        "fraud": fraud,
        "overview": _overview(report, fraud) if fraud else [],
        "fraud_charts": {name: _fraud_charts(report, figures) for name, figures in fraud.items()},
        "classes": classes,
        "class_charts": {title: {name: _class_charts(of) for name, of in task.items()} for title, task in classes.items()},
        "lists": _evaluated(contenders, "candidates"),
        "config": json.dumps(report.get("config", {}), indent=1),
    }
    return render_page("stream_app.backtest.report", "backtest.html", values, FILTERS)


def _evaluated(contenders: Tree, task: str) -> dict[str, Tree]:
    return {name: figures[task] for name, figures in contenders.items() if figures.get(task, {}).get("events")}


def _facts(report: Tree) -> dict[str, str]:
    origin = report.get("origin", {})
    return {
        "command": report.get("command", ""),
        "commit": origin.get("commit", ""),
        "date": origin.get("date", ""),
        "machine": f"{origin.get('machine', '')}, {origin.get('cores', '')} cores",
        "log": ", ".join(f"{count:,} {name}" for name, count in report["counts"].items()),
    }


def _overview(report: Tree, fraud: Tree) -> Charts:
    rows = []
    for head in ("average_precision", f"card_precision_at_{report['budget']}"):
        published = {name: values[head] for name, values in report["published"].items() if head in values}
        figures = {name: of[head] for name, of in fraud.items()}
        rows.append(("with intervals", charts.intervals(figures, published, head.replace("_", " "))))
    curves = {name: of["precision_recall"] for name, of in fraud.items() if of.get("precision_recall")}
    return [*rows, ("at every threshold", charts.precision_recalls(curves))]


def _fraud_charts(report: Tree, figures: Tree) -> Charts:
    days, alerts, curve = report["days"], figures["alerts_per_day"]["value"], figures["sweep"]
    rows = [
        ("Other thresholds", charts.sweep(curve, days, alerts, report["budget"])),
        ("Cost per day", charts.costs(curve, days, (alerts, figures["cost_per_day"]["value"]))),
    ]
    if figures.get("reliability"):
        caption = f"Predicted and observed (calibration error {number(figures['calibration_error'])})"
        rows.append((caption, charts.reliability(figures["reliability"])))
    return rows


def _class_charts(figures: Tree) -> Charts:
    return [
        ("Predictions by label", charts.confusion(figures["confusion"], list(figures["classes"]))),
        ("Predicted and observed", charts.reliability(figures["reliability"])),
    ]
