"""The demo's screen with a worker's answers. It only renders the figures of the scoreboard."""

from __future__ import annotations

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stream_app.monitor.scoreboard import Scoreboard, Summary


def text_line(seconds: float, rate: float, board: Scoreboard, summary: Summary) -> str:
    """Return the figures on one line, for logs and pipes."""
    answers = summary.answers
    return (
        f"{seconds:5.0f} s  {rate:7.0f} events/s  p50 {_number(summary.p50_ms)} ms  p99 {_number(summary.p99_ms)} ms  "
        f"intents {answers['intent-labels']}  "
        f"candidates {answers['recommendation-candidates']}  alerts {answers['fraud-alerts']}  "
        f"precision {_share(summary.precision)}  dead letters {board.counts['dead-letters']}  late {board.counts['late-events']}"
    )


def screen(seconds: float, rate: float, board: Scoreboard, summary: Summary) -> Group:
    """Return the live screen."""
    figures = Table.grid(padding=(0, 3))
    for _ in range(6):
        figures.add_column(justify="right")
    figures.add_row("events/s", "p50 ms", "p99 ms", "alerts", "precision", "seconds")
    figures.add_row(
        Text(f"{rate:,.0f}", style="bold green"),
        Text(_number(summary.p50_ms), style="bold"),
        Text(_number(summary.p99_ms), style="bold"),
        Text(str(summary.answers["fraud-alerts"]), style="bold red"),
        Text(_share(summary.precision), style="bold"),
        f"{seconds:.0f}",
    )
    return Group(
        Panel(figures, title="Millrace: one event, one pass, three answers", title_align="left"),
        Panel(_intents(board), title="intent-labels", title_align="left"),
        Panel(_alerts(board), title="fraud-alerts, newest last", title_align="left"),
        Text(
            f"candidates {summary.answers['recommendation-candidates']:,}   dead letters {board.counts['dead-letters']:,}   "
            f"late events {board.counts['late-events']:,}   Ctrl-C stops",
            style="dim",
        ),
    )


def _intents(board: Scoreboard) -> Text:
    total = max(1, board.intents.total())
    parts = [
        f"{intent} {'█' * round(40 * count / total)} {100 * count / total:.0f} %"
        for intent, count in sorted(board.intents.items())
    ]
    return Text("\n".join(parts) or "none yet")


def _alerts(board: Scoreboard) -> Table:
    table = Table.grid(padding=(0, 2))
    if not board.latest_alerts:
        table.add_row("none yet")
    for alert in board.latest_alerts:
        truth = board.truth_of(alert.event_id)
        verdict = {None: "not known yet", 1.0: "fraud"}.get(truth, "honest")
        why = ", ".join(
            [*alert.rules, *(f"{reason.feature}={reason.value:g} (usual {reason.usual:g})" for reason in alert.reasons[:2])]
        )
        table.add_row(alert.user, f"{alert.probability:.2f}", why, Text(verdict, style="red" if truth else "dim"))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
