"""Numbers as a page shows them, and tables that set candidates side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

__all__ = ["comparison", "interval", "is_figure", "lasting", "number", "share", "table", "threshold"]

_MONEY: Final = frozenset({"cost_per_day", "saved_per_day"})
_LESS_IS_BETTER: Final = frozenset({"cost_per_day", "log_loss"})
_NEITHER: Final = frozenset({"alerts_per_day", "novelty", "new_item_share"})  # more is not better, nor worse
_ANYTHING: Final = 1e-30  # a threshold below: whatever is above nothing is an alert
_ALERTS: Final = frozenset({"alerts_per_day"})
_HOURS: Final = (("days", 24.0), ("hours", 1.0), ("minutes", 1 / 60), ("seconds", 1 / 3_600))

Tree = Mapping[str, Any]


def is_figure(value: object) -> bool:
    """Return whether something is one number, or one with an interval."""
    return (
        value is None or isinstance(value, int | float) or (isinstance(value, Mapping) and set(value) == {"value", "low", "high"})
    )


def number(value: float | None, head: str = "", *, sign: str = "") -> str:
    """Say a number; `head` is the name of its figure, by which it is rounded; "" for none."""
    if value is None:
        return ""
    if not value and sign:
        return "0"
    if head in _MONEY or abs(value) >= 1_000 or (value == int(value) and abs(value) >= 10):
        return f"{value:{sign},.0f}"
    if head in _ALERTS or abs(value) >= 10:
        return f"{value:{sign}.1f}"
    rounded = f"{value:{sign}.3f}"
    # What is not nothing is not called nothing.
    return rounded if float(rounded) or abs(value) < 5e-6 else f"{value:{sign}.5f}"


def share(value: float | None) -> str:
    """Say a share in percent."""
    return "none" if value is None else f"{value:.1%}"


def threshold(value: float | None) -> str:
    """Say a threshold; None raises no alert."""
    if value is None:
        return "no alerts"
    return "above 0" if 0 < value < _ANYTHING else f"{value:.4g}"


def lasting(hours: float | None) -> str:
    """Say how long a time is, in the unit that a person would take."""
    if hours is None:
        return "never"
    unit, length = next(((unit, length) for unit, length in _HOURS if hours >= 2 * length), ("seconds", 1 / 3_600))
    return f"{hours / length:.3g} {unit}"


def interval(value: Any, head: str = "") -> str:  # noqa: ANN401 (a number, an interval, or nothing)
    """Show a figure, and below it its interval if it has one."""
    if not isinstance(value, Mapping):
        return number(value, head)
    if value["value"] is None:
        return ""
    return f"{number(value['value'], head)}<br><small>[{number(value['low'], head)}, {number(value['high'], head)}]</small>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> str:
    """Return a table of cells that are HTML already; from column `numbers_from` on they are numbers."""

    def line(cells: Sequence[str], tag: str) -> str:
        shown = (f"<{tag}{' class=n' if place >= numbers_from else ''}>{cell}</{tag}>" for place, cell in enumerate(cells))
        return f"<tr>{''.join(shown)}</tr>"

    return f"<div class=wide><table>{line(heads, 'th')}{''.join(line(row, 'td') for row in rows)}</table></div>"


def comparison(heads: Sequence[str], judged: Mapping[str, Tree], besides: Mapping[str, Tree]) -> str:
    """Set candidates side by side, each with its difference to the one that the others are compared with.

    Args:
        heads: Names of figures.
        judged: Name of a candidate -> its figures, `against` and `difference` among them.
        besides: What else there is to compare with -> its figures.
    """
    rows = []
    for name, figures in judged.items():
        rows.append([escape(name), *(interval(figures.get(head), head) for head in heads)])
        if "difference" in figures:
            against = f"&nbsp; against {escape(figures['against'])}"
            rows.append([against, *(_difference(figures["difference"].get(head), head) for head in heads)])
    for name, values in besides.items():
        if any(head in values for head in heads):
            rows.append([f"<i>{escape(name)}</i>", *(interval(values.get(head), head) for head in heads)])
    return table(["candidate", *(escape(head.replace("_", " ")) for head in heads)], rows)


def _difference(value: Tree | None, head: str) -> str:
    if value is None or value["value"] is None or value["low"] is None:
        return ""
    sure = value["low"] > 0 or value["high"] < 0
    better = (value["value"] > 0) != (head in _LESS_IS_BETTER)
    word = ("better" if better else "worse") if sure and head not in _NEITHER else ""
    low, high = (number(value[end], head, sign="+") for end in ("low", "high"))
    return f"<span class='{word}'>{number(value['value'], head, sign='+')}</span><br><small>[{low}, {high}]</small>"
