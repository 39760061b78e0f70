"""From scores to decisions: the thresholds of each day, blends of scores, and users that are blocked."""

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


def decide(
    config: BacktestConfig, contenders: Mapping[str, Contender | None], scored: ScoredLog, labels: LabelHistory
) -> dict[str, DecidedEvents]:
    """Return the decisions of each contender about the N scored events, in the order of the configuration.

    Args:
        config: Of the backtest.
        contenders: By name; None for a blend.
        scored: Result of the scoring pass.
        labels: Of the same events.

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
    frauds of the `known_days` before it count.

    Args:
        protocol: Of the evaluation.
        time_ms: (N,) of the events.
        user: (N,) numbers of their users.
        labels: Of the same events.
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
