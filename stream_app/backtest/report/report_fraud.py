"""The part of a backtest's page about fraud: candidates side by side, then each one's thresholds, costs, claims and segments."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final

from stream_app.backtest.report.report_tables import comparison, interval, lasting, number, share, table, threshold
from stream_app.reporting.backtest_charts import BacktestCharts
from stream_app.reporting.html import pictures

__all__ = ["fraud_part"]

_DECISIONS: Final = ("precision", "recall", "value_caught", "alerts_per_day", "cost_per_day", "saved_per_day")

Tree = Mapping[str, Any]


def fraud_part(report: Tree, drawings: BacktestCharts) -> list[str]:
    """Return the pieces of the page; none where nobody was judged on fraud."""
    judged = {name: figures for name, figures in report["candidates"].items() if "average_precision" in figures}
    if not judged:
        return []
    first = next(iter(judged.values()))
    said = (
        f"{first['events']:,} events whose truth is known, {first['frauds']:,} of them frauds ({share(report['prevalence'])}). "
        "Brackets: 95 % interval by drawing users. A difference in colour has an interval without zero."
    )
    published = {f"published: {name}": values for name, values in report["published"].items()}
    ranking = ("average_precision", "auc", f"card_precision_at_{report['budget']}", "user_recall_at_budget")
    hindsight = (
        f"Looking each day into the {report['budget']} users of the day's highest scores, in hindsight; and the ranking as such."
    )
    return [
        "<h2>Fraud</h2>",
        f"<p>{said}</p>",
        f"<h3>By the ranking</h3><p>{hindsight}</p>",
        comparison((*ranking, "value_caught_at_budget"), judged, published),
        "<h3>By the decisions</h3><p>With the thresholds that stood when each day began.</p>",
        comparison(_DECISIONS, judged, published),
        _overview(report, judged, drawings),
        *(_of_candidate(report, name, figures, drawings) for name, figures in judged.items()),
    ]


def _overview(report: Tree, judged: Tree, drawings: BacktestCharts) -> str:
    parts = []
    for head in ("average_precision", f"card_precision_at_{report['budget']}"):
        published = {name: values[head] for name, values in report["published"].items() if head in values}
        figures = {name: of[head] for name, of in judged.items()}
        parts.append(("with intervals", drawings.intervals(figures, published, head.replace("_", " "))))
    curves = {name: of["precision_recall"] for name, of in judged.items() if of.get("precision_recall")}
    parts.append(("at every threshold", drawings.precision_recalls(curves)))
    return pictures(parts)


def _of_candidate(report: Tree, name: str, figures: Tree, drawings: BacktestCharts) -> str:
    days, alerts = report["days"], figures["alerts_per_day"]["value"]
    parts = [
        ("What other thresholds would have come to", drawings.sweep(figures["sweep"], days, alerts, report["budget"])),
        ("What a day costs", drawings.costs(figures["sweep"], days, (alerts, figures["cost_per_day"]["value"]))),
    ]
    if figures.get("reliability"):
        caption = f"What it claims and what happens (calibration error {number(figures['calibration_error'])})"
        parts.append((caption, drawings.reliability(figures["reliability"])))
    return f"<h3>{escape(name)}</h3>{pictures(parts)}{_detection(figures)}{_segments(figures)}{_thresholds(figures)}"


def _detection(figures: Tree) -> str:
    of = figures["time_to_detect"]
    found = ""
    if of["detected_share"]:
        median = f"within {lasting(of['median_hours'])} of it" if of["median_hours"] else "at once"
        found = f", {share(of['at_the_first_fraud_share'])} at the first one; half of the detected {median}"
    return (
        f"<p>Of {of['users_with_fraud']:,.0f} users with a fraud, {share(of['detected_share'])} were detected{found}. "
        f"Half of the labels took {lasting(of['median_hours_of_labels'])} or more. Frauds before detection, or never detected: "
        f"worth {of['value_before']:,.0f}.</p>"
    )


def _thresholds(figures: Tree) -> str:
    said = "; ".join(f"{escape(day)}: {threshold(value)}" for day, value in figures["thresholds"].items())
    return f"<p>Thresholds: {said}</p>"


def _segments(figures: Tree) -> str:
    found = []
    for name, parts in figures["false_positives"].items():
        rows = [
            [
                escape(part["segment"]),
                *(f"{part[count]:,}" for count in ("events", "frauds", "alerts", "false_positives")),
                interval(part["false_positive_rate"]),
            ]
            for part in parts
        ]
        found.append(table([escape(name), "events", "frauds", "alerts", "false positives", "of the honest"], rows))
    return f"<details><summary>False positives by segment</summary>{''.join(found)}</details>" if found else ""
