"""The page of a backtest, drawn from its `report.json` alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from stream_app.backtest.drawings import Drawings
from stream_app.backtest.page import html_page

__all__ = ["html_from_json", "is_figure"]

_HEAD_FIGURES: Final = ("average_precision", "auc", "precision", "recall", "value_caught", "alerts_per_day", "cost_per_day")

Tree = Mapping[str, Any]


def is_figure(value: object) -> bool:
    """Return whether something is one number, or one with an interval."""
    return (
        value is None or isinstance(value, int | float) or (isinstance(value, Mapping) and set(value) == {"value", "low", "high"})
    )


def html_from_json(report: Tree) -> str:
    """Return the page of what `write_report` returned."""
    drawings = Drawings()
    judged = {name: figures for name, figures in report["candidates"].items() if "average_precision" in figures}
    body = [f"<h1>Backtest: {escape(report['name'])}</h1>", _facts(report)]
    if judged:
        body += ["<h2>Fraud</h2>", _table(report, judged), _overview(report, judged, drawings)]
        body += [_of_candidate(report, name, figures, drawings) for name, figures in judged.items()]
    body += [_of_answers(name, figures, drawings) for name, figures in report["candidates"].items()]
    body += [_changes(found) for found in report["changes"]]
    body += [_problems(report), f"<h2>Configuration</h2><pre>{escape(json.dumps(report.get('config', {}), indent=1))}</pre>"]
    return html_page(f"Backtest: {report['name']}", body)


def _facts(report: Tree) -> str:
    here = report.get("origin", {})
    facts = {"command": report.get("command", ""), "commit": here.get("commit", ""), "date": here.get("date", "")}
    facts["machine"] = f"{here.get('machine', '')}, {here.get('cores', '')} cores"
    facts["log"] = ", ".join(f"{count:,} {name}" for name, count in report["counts"].items())
    for name, version in report["versions"].items():
        read = f"Reads {report['catalogues'][name]}." if name in report["catalogues"] else ""
        facts[f"candidate {name}"] = " ".join(filter(None, (f"{version}.", read, report["notes"].get(name, ""))))
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items()) + "</dl>"


def _heads(report: Tree) -> list[str]:
    budget = report["budget"]
    return [
        _HEAD_FIGURES[0],
        f"card_precision_at_{budget}",
        "user_recall_at_budget",
        "value_caught_at_budget",
        *_HEAD_FIGURES[1:],
    ]


def _table(report: Tree, judged: Tree) -> str:
    heads = _heads(report)
    rows = ["<tr><th>candidate</th>" + "".join(f"<th class=n>{escape(head.replace('_', ' '))}</th>" for head in heads) + "</tr>"]
    for name, figures in judged.items():
        cells = "".join(f"<td class=n>{_interval(figures.get(head))}</td>" for head in heads)
        rows.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
        if "difference" in figures:
            cells = "".join(f"<td class=n>{_difference(figures['difference'].get(head), head)}</td>" for head in heads)
            rows.append(f"<tr><td>&nbsp; against {escape(report['against'])}</td>{cells}</tr>")
    for name, values in report["published"].items():
        cells = "".join(f"<td class=n>{_number(values.get(head))}</td>" for head in heads)
        rows.append(f"<tr><td><i>published: {escape(name)}</i></td>{cells}</tr>")
    said = (
        "Brackets: 95 % interval by drawing users. A difference in colour has an interval without zero. Figures at the budget "
        "look into the users of the highest score of each day, in hindsight; precision, recall, value and cost are of the "
        "decisions."
    )
    return f"<div class=wide><table>{''.join(rows)}</table></div><p>{said}</p>"


def _overview(report: Tree, judged: Tree, drawings: Drawings) -> str:
    parts = []
    for head in ("average_precision", f"card_precision_at_{report['budget']}"):
        published = {name: values[head] for name, values in report["published"].items() if head in values}
        figures = {name: of[head] for name, of in judged.items()}
        parts.append((head.replace("_", " "), drawings.intervals(figures, published, head.replace("_", " "))))
    curves = {name: of["precision_recall"] for name, of in judged.items() if of.get("precision_recall")}
    parts.append(("precision and recall", drawings.precision_recalls(curves)))
    return _figures(parts)


def _of_candidate(report: Tree, name: str, figures: Tree, drawings: Drawings) -> str:
    days, alerts = report["days"], figures["alerts_per_day"]["value"]
    parts = [
        ("What other thresholds would have come to", drawings.sweep(figures["sweep"], days, alerts, report["budget"])),
        ("What a day costs", drawings.costs(figures["sweep"], days, (alerts, figures["cost_per_day"]["value"]))),
    ]
    if figures.get("reliability"):
        caption = f"What it claims and what happens (calibration error {_number(figures['calibration_error'])})"
        parts.append((caption, drawings.reliability(figures["reliability"])))
    return f"<h3>{escape(name)}</h3>{_figures(parts)}{_detection(figures)}{_segments(figures)}{_thresholds(figures)}"


def _detection(figures: Tree) -> str:
    of = figures["time_to_detect"]
    return (
        f"<p>Of {_number(of['users_with_fraud'])} users with a fraud, {_share(of['detected_share'])} were detected, "
        f"{_share(of['at_the_first_fraud_share'])} at the first one; median {_number(of['median_hours'])} hours after it, "
        f"where labels took {_number(of['median_hours_of_labels'])}. {_number(of['value_before'])} were lost before that.</p>"
    )


def _thresholds(figures: Tree) -> str:
    said = "; ".join(f"{escape(day)}: {_number(value) or 'no alerts'}" for day, value in figures["thresholds"].items())
    return f"<p>Thresholds: {said}</p>"


def _segments(figures: Tree) -> str:
    found = []
    for name, parts in figures["false_positives"].items():
        rows = "".join(
            f"<tr><td>{escape(part['segment'])}</td><td class=n>{part['events']:,}</td><td class=n>{part['frauds']:,}</td>"
            f"<td class=n>{part['alerts']:,}</td><td class=n>{part['false_positives']:,}</td>"
            f"<td class=n>{_interval(part['false_positive_rate'])}</td></tr>"
            for part in parts
        )
        head = f"<tr><th>{escape(name)}</th><th class=n>events</th><th class=n>frauds</th><th class=n>alerts</th>"
        head += "<th class=n>false positives</th><th class=n>of the honest</th></tr>"
        found.append(f"<table>{head}{rows}</table>")
    return f"<details><summary>False positives by segment</summary>{''.join(found)}</details>" if found else ""


def _of_answers(name: str, figures: Tree, drawings: Drawings) -> str:
    found = []
    for task in ("intent", "next_action"):
        of = figures.get(task)
        if not of or not of["events"]:
            continue
        rows = "".join(
            f"<tr><td>{escape(each)}</td><td class=n>{part['rows']:,}</td><td class=n>{_interval(part['precision'])}</td>"
            f"<td class=n>{_interval(part['recall'])}</td></tr>"
            for each, part in of["classes"].items()
        )
        head = "<tr><th>class</th><th class=n>events</th><th class=n>precision</th><th class=n>recall</th></tr>"
        parts = [("Answers by label", drawings.confusion(of["confusion"], list(of["classes"])))]
        parts.append(("What it claims and what happens", drawings.reliability(of["reliability"])))
        said = f"accuracy {_interval(of['accuracy'])} of {of['events']:,} events"
        found.append(
            f"<h3>{escape(name)}: {escape(task.replace('_', ' '))}</h3><p>{said}</p><table>{head}{rows}</table>{_figures(parts)}"
        )
    of = figures.get("candidates")
    if of:
        rows = "".join(
            f"<tr><td>{escape(key.replace('_', ' '))}</td><td class=n>{_interval(value)}</td></tr>"
            for key, value in of.items()
            if is_figure(value)
        )
        found.append(f"<h3>{escape(name)}: what to show next</h3><table>{rows}</table>")
    return "".join(found)


def _changes(found: Tree) -> str:
    rows = "".join(
        f"<tr><td>{escape(change['event_id'])}</td><td class=n>{change['amount']:,.2f}</td>"
        f"<td>{'?' if change['fraud'] is None else 'fraud' if change['fraud'] else 'honest'}</td>"
        f"<td>{_side(change['before'])}</td><td>{_side(change['after'])}</td></tr>"
        for change in found["first"]
    )
    head = "<tr><th>event</th><th class=n>amount</th><th>truth</th>"
    head += f"<th>{escape(found['from'])}</th><th>{escape(found['to'])}</th></tr>"
    said = (
        f"{found['events']:,} decisions differ: {found['frauds_found']:,} frauds more and {found['frauds_lost']:,} less, "
        f"{found['false_alarms_more']:,} false alarms more and {found['false_alarms_less']:,} less. All of them: {found['file']}."
    )
    table = (
        f"<details><summary>The first {len(found['first'])}</summary><div class=wide><table>{head}{rows}</table></div></details>"
    )
    return (
        f"<h2>What changes from {escape(found['from'])} to {escape(found['to'])}</h2><p>{escape(said)}</p>{table if rows else ''}"
    )


def _side(side: Tree) -> str:
    why = [*side["rules"], *(f"{r['feature']} {r['value']:g} (usual {r['usual']:g})" for r in side["reasons"])]
    return f"<b>{'alert' if side['alert'] else 'no alert'}</b> {_number(side['score'])}<br>{escape('; '.join(why))}"


def _problems(report: Tree) -> str:
    rows = "".join(
        f"<tr><td>{escape(each['file'])}</td><td>{escape(each['reason'])}</td><td class=n>{each['count']:,}</td>"
        f"<td>{escape(', '.join(each['first']))}</td></tr>"
        for each in report["problems"]
    )
    head = "<tr><th>file</th><th>what</th><th class=n>times</th><th>first</th></tr>"
    return f"<h2>What was wrong with the log</h2><table>{head}{rows}</table>" if rows else ""


def _figures(parts: Iterable[tuple[str, str]]) -> str:
    inside = "".join(f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for caption, svg in parts)
    return f"<div class=pictures>{inside}</div>"


def _interval(value: Any) -> str:  # noqa: ANN401 (a number, an interval, or nothing)
    if not isinstance(value, Mapping):
        return _number(value)
    if value["value"] is None:
        return ""
    return f"{_number(value['value'])}<br><small>[{_number(value['low'])}, {_number(value['high'])}]</small>"


def _difference(value: Tree | None, head: str) -> str:
    if value is None or value["value"] is None or value["low"] is None:
        return ""
    sure = value["low"] > 0 or value["high"] < 0
    better = (value["value"] > 0) != (head == "cost_per_day")
    word = ("better" if better else "worse") if sure and head != "alerts_per_day" else ""
    return f"<span class='{word}'>{value['value']:+.4g}</span><br><small>[{value['low']:+.3g}, {value['high']:+.3g}]</small>"


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1_000 or (value == int(value) and abs(value) >= 10) else f"{value:.4g}"
