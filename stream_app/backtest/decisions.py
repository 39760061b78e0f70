"""From scores to decisions: the thresholds of each day, blends of scores, and users that are blocked.

An adaptive threshold is chosen at the first moment of each day (UTC): by budget, from the scores of the previous days without
labels; by precision, from the previous events whose labels were known by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.backtest.changes import DecidedEvents
from stream_app.backtest.config import DAY_MS, BacktestConfig, ContenderConfig, EvaluationConfig
from stream_app.backtest.contenders.contender import Contender
from stream_app.backtest.scoring_pass import ScoredLog
from stream_app.errors import ConfigError
from stream_app.evaluation.label_history import NEVER_MS, LabelHistory
from stream_app.evaluation.metrics import threshold_for

NO_ALERTS: Final = float("inf")

Floats = NDArray[np.floating[Any]]


def decide(
    config: BacktestConfig, contenders: Mapping[str, Contender | None], scored: ScoredLog, labels: LabelHistory
) -> dict[str, DecidedEvents]:
    """Return the decisions of each contender about the N scored events, in the order of the configuration.

    Raises:
        ConfigError: A blend of scores that are not probabilities.
    """
    decisions: dict[str, DecidedEvents] = {}
    for name, contender in sorted(config.candidates.items(), key=lambda each: each[1].kind == "blend"):
        if contender.kind == "blend":
            score = _blended([decisions[other].score for other in contender.of], contender)
        else:
            score = scored.scores[name].astype(np.float64)
        threshold = _thresholds(contender, contenders[name], score, (config.judge, scored, labels))
        decisions[name] = DecidedEvents(score, threshold, score >= threshold)
    return {name: decisions[name] for name in config.candidates}


def blocked(
    protocol: EvaluationConfig, time_ms: NDArray[np.int64], user: NDArray[np.int64], labels: LabelHistory
) -> NDArray[np.bool_]:
    """Return which events (N,) belong to a user with a fraud that was known when the day began.

    Frauds count from `known_days` before the first evaluated day on. Thresholds also look back at earlier days: on each of them
    frauds of the `known_days` before it count. `user` (N,) are numbers.
    """
    known_ms, day_ms = labels.first_known_ms(1), time_ms // DAY_MS * DAY_MS
    is_blocked = np.zeros(len(day_ms), np.bool_)
    for day in np.unique(day_ms).tolist():
        since_ms = min(day, protocol.begin_ms) - protocol.known_days * DAY_MS
        known = user[(known_ms <= day) & (time_ms >= since_ms)]
        today = day_ms == day
        is_blocked[today] = np.isin(user[today], known)
    return is_blocked


def _thresholds(
    config: ContenderConfig,
    contender: Contender | None,
    score: NDArray[np.float64],
    case: tuple[EvaluationConfig, ScoredLog, LabelHistory],
) -> NDArray[np.float64]:
    protocol, scored, labels = case
    own = config.threshold if config.threshold is not None else contender.threshold if contender is not None else None
    if own is not None and not config.adapt:
        # A worker compares in the precision of the scores.
        return np.full(len(score), float(np.float32(own)))
    time_ms, days = scored.time_ms, config.lookback_days
    # The budget is spent on events of kinds that have labels, of users who are not blocked.
    eligible = np.isin(scored.kind, np.unique(scored.kind[labels.label_row]))
    if protocol.leave_out_known:
        eligible &= ~blocked(protocol, time_ms, scored.user, labels)
    eligible_score = np.where(eligible, score, np.nan)

    def choose(moment_ms: int) -> float:
        if moment_ms + DAY_MS <= protocol.begin_ms:
            return NO_ALERTS  # earlier days only serve as lookback
        if config.adapt == "precision":
            return known_threshold(score, time_ms, labels, config.precision, moment_ms, days)
        return budget_threshold(eligible_score, time_ms, scored.user, protocol.daily_budget, moment_ms, days)

    return adapted(time_ms, choose)


def _blended(scores: Sequence[NDArray[np.float64]], config: ContenderConfig) -> NDArray[np.float64]:
    for name, score in zip(config.of, scores, strict=True):
        if np.nanmin(score, initial=0.0) < 0.0 or np.nanmax(score, initial=0.0) > 1.0:
            raise ConfigError(
                f"a blend is of probabilities, and the scores of {name!r} are not in [0, 1]; leave it out of the blend"
            )
    weights = np.asarray(config.weights or [1.0] * len(scores)) / sum(config.weights or [1.0] * len(scores))
    logits = [np.log(s) - np.log1p(-s) for s in (np.clip(score, 1e-7, 1.0 - 1e-7) for score in scores)]
    mean = sum(weight * logit for weight, logit in zip(weights, logits, strict=True))
    blended: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-mean))
    return blended


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
    """Return the threshold that would have alerted on `budget` users per day over the `lookback_days` before a moment.

    It is the lowest score that keeps the budget on average; NO_ALERTS without a previous day. A user counts once a day, with the
    highest score. Scores (N,) are NaN for no score; `user` (N,) are numbers.
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
    known, and any threshold would seem precise on them. Those at most `lookback_days` older than the youngest of them count.
    Scores (N,) are NaN for no score.
    """
    known, by_age = labels.mature_at(moment_ms), labels.honest_from_ms < NEVER_MS
    youngest_ms = moment_ms - int((labels.honest_from_ms - time_ms)[by_age].max(initial=0))
    past = (time_ms < moment_ms) & (time_ms >= youngest_ms - lookback_days * DAY_MS) & (known >= 0) & ~np.isnan(scores)
    if not (known[past] > 0).any():
        return NO_ALERTS
    chosen = threshold_for(scores[past], known[past], precision)
    alerts = scores[past] >= chosen
    return chosen if known[past][alerts].mean() >= precision else NO_ALERTS
