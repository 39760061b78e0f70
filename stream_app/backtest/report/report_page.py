"""The page of a backtest, drawn from its `report.json` alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from stream_app.backtest.report.report_answers import answers_part
from stream_app.backtest.report.report_fraud import fraud_part
from stream_app.backtest.report.report_tables import number, table, threshold
from stream_app.reporting.backtest_charts import BacktestCharts
from stream_app.reporting.html import html_page

__all__ = ["html_from_json"]

Tree = Mapping[str, Any]


def html_from_json(report: Tree) -> str:
    """Return the page of what `write_report` returned."""
    drawings = BacktestCharts()
    body = [
        f"<h1>Backtest: {escape(report['name'])}</h1>",
        _facts(report),
        *fraud_part(report, drawings),
        *answers_part(report, drawings),
        *map(_changes, report["changes"]),
        _problems(report),
        f"<h2>Configuration</h2><pre>{escape(json.dumps(report.get('config', {}), indent=1))}</pre>",
    ]
    return html_page(f"Backtest: {report['name']}", body)


def _facts(report: Tree) -> str:
    here = report.get("origin", {})
    facts = {"command": report.get("command", ""), "commit": here.get("commit", ""), "date": here.get("date", "")}
    facts["machine"] = f"{here.get('machine', '')}, {here.get('cores', '')} cores"
    facts["log"] = ", ".join(f"{count:,} {name}" for name, count in report["counts"].items())
    said = "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items()) + "</dl>"
    heads, columns = ["candidate", "what it is"], [report["versions"]]
    for head, of in (("catalogue", report["catalogues"]), ("note", report["notes"])):
        if of:
            heads.append(head)
            columns.append(of)
    rows = [[escape(name), *(escape(column.get(name, "")) for column in columns)] for name in report["versions"]]
    return said + table(heads, rows, numbers_from=len(heads))


def _changes(found: Tree) -> str:
    old, new = escape(found["from"]), escape(found["to"])
    said = (
        f"{found['events']:,} decisions differ: {found['frauds_found']:,} frauds more and {found['frauds_lost']:,} less, "
        f"{found['false_alarms_more']:,} false alarms more and {found['false_alarms_less']:,} less. All of them: {found['file']}."
    )
    shown = ""
    if found["first"]:
        listed = table(
            ["event", "amount", "truth", old, new, "why"], [_change(each, (old, new)) for each in found["first"]], numbers_from=6
        )
        shown = f"<details><summary>The first {len(found['first'])}, with score at threshold</summary>{listed}</details>"
    return f"<h2>What changes from {old} to {new}</h2><p>{escape(said)}</p>{shown}"


def _change(change: Tree, names: tuple[str, str]) -> list[str]:
    sides = (change["before"], change["after"])
    why = [escape("; ".join([*side["rules"], *map(_reason, side["reasons"])])) for side in sides]
    if why[0] != why[1]:
        why = [f"<i>{name}:</i> {reasons}" for name, reasons in zip(names, why, strict=True) if reasons]
    return [
        f"{escape(change['event_id'])}<br><small>{escape(change['kind'])}</small>",
        f"{change['amount']:,.2f}",
        "?" if change["fraud"] is None else "fraud" if change["fraud"] else "honest",
        *map(_side, sides),
        "<br>".join(dict.fromkeys(why)),  # said once where both have the same reasons
    ]


def _side(side: Tree) -> str:
    scored = f"{number(side['score'])} at {threshold(side['threshold'])}"
    return f"<b>{'alert' if side['alert'] else 'no alert'}</b><br><small>{scored}</small>"


def _reason(reason: Tree) -> str:
    return f"{reason['feature']} {number(reason['value'])} (usual {number(reason['usual'])})"


def _problems(report: Tree) -> str:
    rows = "".join(
        f"<tr><td>{escape(each['file'])}</td><td>{escape(each['reason'])}</td><td class=n>{each['count']:,}</td>"
        f"<td>{escape(', '.join(each['first']))}</td></tr>"
        for each in report["problems"]
    )
    head = "<tr><th>file</th><th>what</th><th class=n>times</th><th>first</th></tr>"
    return f"<h2>What was wrong with the log</h2><table>{head}{rows}</table>" if rows else ""
