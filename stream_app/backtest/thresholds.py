"""Thresholds that adapt day by day, from what was known when the day began.

An adaptive threshold is chosen at the first moment of each day (UTC): by budget, from the scores of the previous days without
labels; by precision, from the previous events whose labels were known by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.backtest.config import DAY_MS
from stream_app.evaluation.label_history import NEVER_MS, LabelHistory
from stream_app.evaluation.metrics import threshold_for

NO_ALERTS: Final = float("inf")

Floats = NDArray[np.floating[Any]]


def adapted(time_ms: NDArray[np.int64], choose: Callable[[int], float]) -> NDArray[np.float64]:
    """Return the threshold (N,) of each event; `choose` is called with the first moment of each day that has one."""
    days = time_ms // DAY_MS
    of_day, place = np.unique(days, return_inverse=True)
    chosen = np.array([choose(int(day) * DAY_MS) for day in of_day], np.float64)
    thresholds: NDArray[np.float64] = chosen[place]
    return thresholds


def budget_threshold(
    scores: Floats, time_ms: NDArray[np.int64], user: NDArray[np.int64], budget: int, moment_ms: int, lookback_days: int
) -> float:
    """Return the threshold that would have alerted on `budget` users per day over the days before a moment.

    Args:
        scores: (N,) of events; NaN for no score.
        time_ms: (N,).
        user: (N,) numbers of the users; a user counts once a day, with the highest score.
        budget: users per day.
        moment_ms: events from then on are ignored.
        lookback_days: older events are ignored too.

    Returns:
        The lowest score that keeps the budget on average; NO_ALERTS without a previous day.
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
    alerted = len(highest) - np.searchsorted(np.sort(highest), levels)  # users with a score of at least each level
    fits = np.flatnonzero(alerted <= allowed)
    return float(levels[fits[0]]) if len(fits) else NO_ALERTS


def known_threshold(
    scores: Floats, time_ms: NDArray[np.int64], labels: LabelHistory, precision: float, moment_ms: int, lookback_days: int
) -> float:
    """Return the lowest threshold that had this precision by the labels known at a moment; NO_ALERTS without a known fraud.

    Where the absence of a label means honest, events count once they are old enough for that: of younger events only frauds are
    known, and any threshold would seem precise on them.

    Args:
        scores: (N,) of events; NaN for no score.
        time_ms: (N,).
        labels: of the same events.
        precision: the least precision.
        moment_ms: later labels and events are ignored.
        lookback_days: events count if they are at most this much older than the youngest event that counts.
    """
    known, by_age = labels.mature_at(moment_ms), labels.honest_from_ms < NEVER_MS
    youngest_ms = moment_ms - int((labels.honest_from_ms - time_ms)[by_age].max(initial=0))
    past = (time_ms < moment_ms) & (time_ms >= youngest_ms - lookback_days * DAY_MS) & (known >= 0) & ~np.isnan(scores)
    if not (known[past] > 0).any():
        return NO_ALERTS
    chosen = threshold_for(scores[past], known[past], precision)
    alerts = scores[past] >= chosen
    return chosen if known[past][alerts].mean() >= precision else NO_ALERTS
