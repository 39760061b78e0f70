"""From scores to alerts, day by day, with what was known when the day began.

A fixed threshold stays. One that adapts is chosen at the first moment of each day (UTC): by budget from the scores of the days
before, which needs no label; by precision from the events that could be judged by the labels that had become known by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.backtest.config import DAY_MS
from stream_app.evaluation.label_history import NEVER_MS, LabelHistory
from stream_app.evaluation.metrics import threshold_for

__all__ = ["NO_ALERTS", "adapted", "budget_threshold", "known_threshold"]

NO_ALERTS: Final = float("inf")

Floats = NDArray[np.floating[Any]]


def adapted(time_ms: NDArray[np.int64], choose: Callable[[int], float]) -> NDArray[np.float64]:
    """Return the threshold (N,) of each event; `choose` is called with the first moment of each day that has one."""
    days = time_ms // DAY_MS
    of_day, place = np.unique(days, return_inverse=True)
    chosen = np.array([choose(int(day) * DAY_MS) for day in of_day], np.float64)
    found: NDArray[np.float64] = chosen[place]
    return found


def budget_threshold(
    scores: Floats, time_ms: NDArray[np.int64], user: NDArray[np.int64], budget: int, moment_ms: int, lookback_days: int
) -> float:
    """Return the threshold that would have raised `budget` users a day over the days before a moment.

    Args:
        scores: (N,) of events; NaN says nothing.
        time_ms: (N,).
        user: (N,) whose event it is; one is looked into once a day, for its highest score.
        budget: users a day.
        moment_ms: nothing from then on is looked at.
        lookback_days: nor what is older.

    Returns:
        The lowest score that keeps the budget on average; NO_ALERTS without a day to look back at.
    """
    past = (time_ms < moment_ms) & (time_ms >= moment_ms - lookback_days * DAY_MS) & ~np.isnan(scores)
    days = time_ms[past] // DAY_MS
    if not len(days):
        return NO_ALERTS
    _, pair = np.unique(np.stack([days, user[past]], axis=1), axis=0, return_inverse=True)
    highest = np.full(int(pair.max()) + 1, -np.inf)
    np.maximum.at(highest, pair.ravel(), scores[past].astype(np.float64))
    allowed = budget * len(np.unique(days))
    levels = np.unique(scores[past])
    spent = len(highest) - np.searchsorted(np.sort(highest), levels)  # users with a score of at least each level
    fits = np.flatnonzero(spent <= allowed)
    return float(levels[fits[0]]) if len(fits) else NO_ALERTS


def known_threshold(
    scores: Floats, time_ms: NDArray[np.int64], truth: LabelHistory, precision: float, moment_ms: int, lookback_days: int
) -> float:
    """Return the lowest threshold that had this precision on what was known at a moment; NO_ALERTS where no fraud was.

    Where silence means honest, events count once they are as old as that: among younger ones only frauds are known, and any
    threshold would seem precise on them.

    Args:
        scores: (N,) of events; NaN says nothing.
        time_ms: (N,).
        truth: of the same events.
        precision: at least so much.
        moment_ms: labels that became known later do not count, nor events from then on.
        lookback_days: nor events that were older than this when the youngest one that counts came.
    """
    known, waits = truth.judged_at(moment_ms), truth.silent_ms < NEVER_MS
    youngest_ms = moment_ms - int((truth.silent_ms - time_ms)[waits].max(initial=0))
    past = (time_ms < moment_ms) & (time_ms >= youngest_ms - lookback_days * DAY_MS) & (known >= 0) & ~np.isnan(scores)
    if not (known[past] > 0).any():
        return NO_ALERTS
    chosen = threshold_for(scores[past], known[past], precision)
    alerts = scores[past] >= chosen
    return chosen if known[past][alerts].mean() >= precision else NO_ALERTS
