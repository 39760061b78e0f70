"""Fraud metrics of a contender: of its ranking, of its decisions, and within the fraud team's daily budget.

All figures are of the evaluated events. Those with an interval use the same bootstrap samples of users for every contender.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.backtest.config import DAY_MS, Costs
from stream_app.backtest.costs import cost_of, sweep
from stream_app.evaluation import curves
from stream_app.evaluation.bootstrap import BootstrapSamples, Figures, interval_of
from stream_app.evaluation.card_precision import CardDays
from stream_app.evaluation.metrics import Ranking, brier, calibration_error

_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, eq=False)
class FraudCase:
    """The K events on which all contenders are evaluated, in canonical order.

    Attributes:
        time_ms: (K,) int64.
        label: (K,) int64, final labels: 1 fraud, 0 honest.
        amount: (K,) float64, what is at stake.
        known_ms: (K,) int64, when a fraud became known.
        draws: of the users.
        budget: users that the fraud team can review per day.
        costs: of decisions.
        segments: name -> (codes (K,), names).
    """

    time_ms: NDArray[np.int64]
    label: NDArray[np.int64]
    amount: NDArray[np.float64]
    known_ms: NDArray[np.int64]
    draws: BootstrapSamples
    budget: int
    costs: Costs
    segments: Mapping[str, tuple[NDArray[np.int64], list[str]]]

    @property
    def days(self) -> NDArray[np.int64]:
        """Return the day number (K,) of each event, UTC."""
        days: NDArray[np.int64] = self.time_ms // DAY_MS
        return days


def fraud_figures(
    case: FraudCase, scores: NDArray[np.float64], threshold: NDArray[np.float64], *, is_probability: bool
) -> Figures:
    """Evaluate one contender by its scores (K,) and the thresholds (K,) of its alerts; a NaN is lower than any other score."""
    has_score = ~np.isnan(scores)
    lowest = scores[has_score].min(initial=0.0) - 1.0
    ranked = np.where(has_score, scores, lowest)
    alert = has_score & (scores >= threshold)
    drawn = _ranking(case, ranked) | _decisions(case, alert)
    figures: dict[str, Any] = {name: interval_of(values) for name, values in drawn.items()}
    figures |= {
        "events": len(scores),
        "frauds": int(case.label.sum()),
        "without_a_score": int((~has_score).sum()),
        "thresholds": _thresholds(case, threshold),
        "time_to_detect": _time_to_detect(case, alert),
        "false_positives": {name: _by_segment(case, alert, *part) for name, part in case.segments.items()},
        "sweep": sweep(ranked, case.label, case.amount, case.costs),
    }
    if len(scores):
        figures["precision_recall"] = curves.precision_recall_curve(ranked, case.label)
    if is_probability and has_score.any():
        predicted, label = scores[has_score], case.label[has_score]
        figures["reliability"] = curves.reliability(predicted, label)
        figures |= {"calibration_error": calibration_error(predicted, label), "brier": brier(predicted, label)}
    return Figures(figures, drawn)


def _ranking(case: FraudCase, ranked: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    draws, budget = case.draws, case.budget
    ranking = Ranking(ranked, case.label, draws.of_event)
    cards = CardDays(ranked, case.label, case.days, draws.of_event, len(draws.users))
    return {
        "average_precision": draws.values(ranking.average_precision),
        "auc": draws.values(ranking.roc_auc),
        f"card_precision_at_{budget}": draws.values(lambda weights: cards.precision(weights, budget)),
        **_within_budget(case, cards),
    }


def _within_budget(case: FraudCase, cards: CardDays) -> dict[str, NDArray[np.float64]]:
    """Results of reviewing each day's users with the highest scores; a user with a fraud is blocked from that day on."""
    draws = case.draws
    detected = cards.detection_day(case.budget)  # (U,)
    days = np.unique(case.days, return_inverse=True)[1]
    stopped = (case.label == 1) & (days >= detected[draws.of_event])
    first = np.zeros(len(case.label), np.bool_)  # one event of each user with a fraud, to count users by
    frauds = np.flatnonzero(case.label == 1)
    first[frauds[np.unique(draws.of_event[frauds], return_index=True)[1]]] = True
    lost = np.where(case.label == 1, case.amount, 0.0)
    return {
        "user_recall_at_budget": draws.ratios(first & (detected[draws.of_event] < len(np.unique(days))), first),
        "value_caught_at_budget": draws.ratios(np.where(stopped, case.amount, 0.0), lost),
    }


def _decisions(case: FraudCase, alert: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    draws, fraud = case.draws, case.label == 1
    days = max(1, len(np.unique(case.days)))
    cost = cost_of(alert, case.label, case.amount, case.costs)
    nothing = cost_of(np.zeros_like(alert), case.label, case.amount, case.costs)
    value = np.where(fraud, case.amount, 0.0)
    totals = draws.sums(np.stack([alert / days, cost / days, (nothing - cost) / days], axis=1)).T
    return {
        "precision": draws.ratios(alert & fraud, alert),
        "recall": draws.ratios(alert & fraud, fraud),
        "value_caught": draws.ratios(np.where(alert, value, 0.0), value),
        "alerts_per_day": totals[0],
        "cost_per_day": totals[1],
        "saved_per_day": totals[2],
    }


def _thresholds(case: FraudCase, threshold: NDArray[np.float64]) -> dict[str, float]:
    """Return day -> threshold; one entry for all days if it never changed."""
    if len(np.unique(threshold)) <= 1:
        return {"all days": float(threshold[0])} if len(threshold) else {}
    days, first = np.unique(case.days, return_index=True)
    return {str(np.datetime64(int(day), "D")): float(threshold[at]) for day, at in zip(days, first, strict=True)}


def _time_to_detect(case: FraudCase, alert: NDArray[np.bool_]) -> dict[str, float]:
    """Return, for users with a fraud, the times from the first fraud to the first alert on a fraud and to the first label."""
    fraud, users = case.label == 1, len(case.draws.users)
    never = np.iinfo(np.int64).max

    def first(of: NDArray[np.bool_], moment: NDArray[np.int64]) -> NDArray[np.int64]:
        earliest = np.full(users, never, np.int64)
        np.minimum.at(earliest, case.draws.of_event[of], moment[of])
        return earliest

    begun, detected = first(fraud, case.time_ms), first(fraud & alert, case.time_ms)
    labelled = first(fraud, case.known_ms)
    hit = begun < never
    seen = hit & (detected < never)
    missed_first = fraud & (case.time_ms < detected[case.draws.of_event])
    hours = (detected[seen] - begun[seen]) / _HOUR_MS
    labels = (labelled[hit] - begun[hit]) / _HOUR_MS
    return {
        "users_with_fraud": float(hit.sum()),
        "detected_share": float(seen.sum() / hit.sum()) if hit.any() else float("nan"),
        "median_hours": float(np.median(hours)) if seen.any() else float("nan"),
        "at_the_first_fraud_share": float((hours == 0).sum() / hit.sum()) if hit.any() else float("nan"),
        "median_hours_of_labels": float(np.median(labels)) if hit.any() else float("nan"),
        "value_before": float(case.amount[missed_first].sum()),
    }


def _by_segment(case: FraudCase, alert: NDArray[np.bool_], codes: NDArray[np.int64], names: list[str]) -> list[dict[str, Any]]:
    honest, rows = case.label == 0, []
    for code in np.unique(codes).tolist():
        own = codes == code
        rows.append(
            {
                "segment": names[code],
                "events": int(own.sum()),
                "frauds": int((own & ~honest).sum()),
                "alerts": int((own & alert).sum()),
                "false_positives": int((own & alert & honest).sum()),
                "false_positive_rate": interval_of(case.draws.ratios(own & alert & honest, own & honest)),
            }
        )
    return rows
