"""From scores to decisions: thresholds as they stood when each day began, blends of the others' scores, who was blocked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stream_app.backtest.changes import DecidedEvents
from stream_app.backtest.config import DAY_MS, BacktestConfig, ContenderConfig, EvaluationConfig
from stream_app.backtest.contenders.contender import Contender
from stream_app.backtest.scoring_pass import ScoredLog
from stream_app.backtest.thresholds import NO_ALERTS, adapted, budget_threshold, known_threshold
from stream_app.errors import ConfigError
from stream_app.evaluation.label_history import LabelHistory

__all__ = ["blocked", "decide"]


def decide(
    config: BacktestConfig, candidates: Mapping[str, Contender | None], gathered: ScoredLog, truth: LabelHistory
) -> dict[str, DecidedEvents]:
    """Return what each candidate decided of the N events that are kept, in the order of the configuration.

    Args:
        config: Of the backtest.
        candidates: By name; None: a blend.
        gathered: By the pass.
        truth: Of the same events.

    Raises:
        ConfigError: A blend is of scores that are no probabilities.
    """
    found: dict[str, DecidedEvents] = {}
    for name, candidate in sorted(config.candidates.items(), key=lambda each: each[1].kind == "blend"):
        if candidate.kind == "blend":
            score = _blended([found[other].score for other in candidate.of], candidate)
        else:
            score = gathered.scores[name].astype(np.float64)
        threshold = _thresholds(candidate, candidates[name], score, (config.judge, gathered, truth))
        found[name] = DecidedEvents(score, threshold, score >= threshold)
    return {name: found[name] for name in config.candidates}


def blocked(
    judge: EvaluationConfig, time_ms: NDArray[np.int64], user: NDArray[np.int64], truth: LabelHistory
) -> NDArray[np.bool_]:
    """Return which events (N,) are of a user with a fraud that was known when the day began.

    The fraud is no older than `known_days` before the first judged day; of the days before that one, which thresholds look back
    at, no older than `known_days` before each.

    Args:
        judge: The protocol.
        time_ms: (N,) of the events.
        user: (N,) whose they are.
        truth: Of the same events.
    """
    known_ms, day_ms = truth.first_known_ms(1), time_ms // DAY_MS * DAY_MS
    found = np.zeros(len(day_ms), np.bool_)
    for day in np.unique(day_ms).tolist():
        since_ms = min(day, judge.begin_ms) - judge.known_days * DAY_MS
        known = user[(known_ms <= day) & (time_ms >= since_ms)]
        own = day_ms == day
        found[own] = np.isin(user[own], known)
    return found


def _thresholds(
    config: ContenderConfig,
    candidate: Contender | None,
    score: NDArray[np.float64],
    case: tuple[EvaluationConfig, ScoredLog, LabelHistory],
) -> NDArray[np.float64]:
    judge, gathered, truth = case
    own = config.threshold if config.threshold is not None else candidate.threshold if candidate is not None else None
    if own is not None and not config.adapt:
        # Compared as a worker compares: in the precision of the scores.
        return np.full(len(score), float(np.float32(own)))
    time_ms, days = gathered.time_ms, config.lookback_days
    # What the budget is spent on: events of kinds that are judged at all, of users who were not blocked.
    spent = np.isin(gathered.kind, np.unique(gathered.kind[truth.said_row]))
    if judge.leave_out_known:
        spent &= ~blocked(judge, time_ms, gathered.user, truth)
    open_score = np.where(spent, score, np.nan)

    def choose(moment_ms: int) -> float:
        if moment_ms + DAY_MS <= judge.begin_ms:
            return NO_ALERTS  # the days before only serve to look back at
        if config.adapt == "precision":
            return known_threshold(score, time_ms, truth, config.precision, moment_ms, days)
        return budget_threshold(open_score, time_ms, gathered.user, judge.daily_budget, moment_ms, days)

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
