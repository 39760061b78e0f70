"""Numbers of a backtest as its page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_MONEY: Final = frozenset({"cost_per_day", "saved_per_day"})
_LESS_IS_BETTER: Final = frozenset({"cost_per_day", "log_loss"})
_NEUTRAL: Final = frozenset({"alerts_per_day", "novelty", "new_item_share"})  # more is neither better nor worse
_SMALLEST: Final = 1e-30  # a threshold below: any score above 0 is an alert
_ALERTS: Final = frozenset({"alerts_per_day"})
_HOURS: Final = (("days", 24.0), ("hours", 1.0), ("minutes", 1 / 60), ("seconds", 1 / 3_600))


def is_figure(value: object) -> bool:
    """Return whether a value of the report is one number, or one with an interval."""
    return (
        value is None or isinstance(value, int | float) or (isinstance(value, Mapping) and set(value) == {"value", "low", "high"})
    )


def number(value: float | None, head: str = "", sign: str = "") -> str:
    """Format a number; `head` is the name of its figure, which decides the rounding; None gives ""."""
    if value is None:
        return ""
    if not value and sign:
        return "0"
    if head in _MONEY or abs(value) >= 1_000 or (value == int(value) and abs(value) >= 10):
        return f"{value:{sign},.0f}"
    if head in _ALERTS or abs(value) >= 10:
        return f"{value:{sign}.1f}"
    rounded = f"{value:{sign}.3f}"
    # A small number other than 0 is not shown as 0.
    return rounded if float(rounded) or abs(value) < 5e-6 else f"{value:{sign}.5f}"


def share(value: float | None) -> str:
    """Format a share in percent."""
    return "none" if value is None else f"{value:.1%}"


def threshold(value: float | None) -> str:
    """Format a threshold; None raises no alert."""
    if value is None:
        return "no alerts"
    return "above 0" if 0 < value < _SMALLEST else f"{value:.4g}"


def duration(hours: float | None) -> str:
    """Format a duration in the largest unit of which it has two."""
    if hours is None:
        return "never"
    unit, length = next(((unit, length) for unit, length in _HOURS if hours >= 2 * length), ("seconds", 1 / 3_600))
    return f"{hours / length:.3g} {unit}"


def direction(difference: Mapping[str, Any], head: str) -> str:
    """Return "better" or "worse" for a difference whose interval excludes zero, else ""."""
    if head in _NEUTRAL or difference["low"] <= 0 <= difference["high"]:
        return ""
    return "better" if (difference["value"] > 0) != (head in _LESS_IS_BETTER) else "worse"
