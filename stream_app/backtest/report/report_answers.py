"""The part of a backtest's page about intent, next action and lists of items: side by side, then class by class."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final

from stream_app.backtest.report.report_tables import comparison, interval, share, table
from stream_app.reporting.backtest_charts import BacktestCharts
from stream_app.reporting.html import pictures

__all__ = ["answers_part"]

_CLASSES: Final = {"intent": "Intent", "next_action": "Next action"}
_LISTS: Final = ("recall_at_1", "recall_at_10", "recall_at_20", "ndcg_at_10", "ndcg_at_20")
_KINDS: Final = ("novelty", "new_item_share", "coverage")

Tree = Mapping[str, Any]


def answers_part(report: Tree, drawings: BacktestCharts) -> list[str]:
    """Return the pieces of the page, task by task; none of a task that nobody was judged on."""
    found: list[str] = []
    for task, title in _CLASSES.items():
        judged = {name: of[task] for name, of in report["candidates"].items() if of.get(task, {}).get("events")}
        if judged:
            first = next(iter(judged.values()))
            said = (
                f"{first['events']:,} events whose truth is known. Always saying {escape(first['commonest'])} would be right in "
                f"{share(first['commonest_share'])}."
            )
            found += [f"<h2>{title}</h2>", f"<p>{said}</p>", comparison(("accuracy", "log_loss"), judged, {})]
            found += [_of_candidate(name, of, drawings) for name, of in judged.items()]
    shown = {name: of["candidates"] for name, of in report["candidates"].items() if of.get("candidates", {}).get("events")}
    if shown:
        floor = {f"floor: {name}": of for name, of in report["floors"]["candidates"].items()}
        said = (
            f"{next(iter(shown.values()))['events']:,} events after which another item was taken in the session: where in the "
            "list was it? Novelty: mean bits of an item's share of the log so far. Coverage: of the candidate's own items."
        )
        found += [
            "<h2>What to show next</h2>",
            f"<p>{said}</p>",
            comparison(_LISTS, shown, floor),
            comparison(_KINDS, shown, floor),
        ]
    return found


def _of_candidate(name: str, of: Tree, drawings: BacktestCharts) -> str:
    rows = [
        [escape(each), f"{part['rows']:,}", interval(part["precision"]), interval(part["recall"])]
        for each, part in of["classes"].items()
    ]
    parts = [
        ("Answers by label", drawings.confusion(of["confusion"], list(of["classes"]))),
        ("What it claims and what happens", drawings.reliability(of["reliability"])),
    ]
    return f"<h3>{escape(name)}</h3>{table(['class', 'events', 'precision', 'recall'], rows)}{pictures(parts)}"
