"""The cost of decisions at the user's own prices, and of every other threshold."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.backtest.config import Costs
from stream_app.evaluation.metrics import Ranking

_POINTS: Final = 200  # of a curve: a screen cannot show more


def cost_of(alert: NDArray[np.bool_], label: NDArray[np.int64], amount: NDArray[np.float64], costs: Costs) -> NDArray[np.float64]:
    """Return the cost of each of K events: review, false alarm or missed fraud. All arrays (K,)."""
    fraud = label == 1
    reviewed = np.where(alert, costs.review + np.where(fraud, 0.0, costs.false_alarm), 0.0)
    cost: NDArray[np.float64] = reviewed + np.where(fraud & ~alert, costs.missed + costs.missed_share * amount, 0.0)
    return cost


def sweep(
    scores: NDArray[np.float64], label: NDArray[np.int64], amount: NDArray[np.float64], costs: Costs
) -> dict[str, list[float]]:
    """Return the results of each threshold, from the highest to the lowest; the first one raises no alert.

    At most 200 distinct scores are kept, even in the log of the alerts; the threshold of the least cost is always among them.
    Scores (K,) are all numbers, labels (K,) 0 or 1.

    Returns:
        `threshold`, `alerts`, `hits`, `precision` (NaN without alerts), `recall`, `value_caught` (shares), `cost`; as long.
    """
    ranking, fraud = Ranking(scores, label), label == 1
    value = np.where(fraud, amount, 0.0)
    hits, alerts = (np.append(0.0, part) for part in ranking.cumulative(np.ones(len(scores))))
    caught = np.append(0.0, ranking.cumulative(value)[0])
    cost = costs.review * alerts + costs.false_alarm * (alerts - hits)
    cost = cost + costs.missed * (fraud.sum() - hits) + costs.missed_share * (value.sum() - caught)
    points = _curve_points(alerts, int(np.argmin(cost)))
    threshold = np.append(np.inf, ranking.thresholds)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            "threshold": threshold,
            "alerts": alerts,
            "hits": hits,
            "precision": hits / alerts,
            "recall": hits / max(1, int(fraud.sum())),
            "value_caught": caught / (value.sum() or np.nan),
            "cost": cost,
        }
    return {name: column[points].astype(float).tolist() for name, column in columns.items()}


def _curve_points(alerts: NDArray[np.float64], best: int) -> NDArray[np.int64]:
    along = np.log1p(alerts)
    even = np.searchsorted(along, np.linspace(along[0], along[-1], _POINTS)).clip(0, len(along) - 1)
    return np.unique([*even.tolist(), 0, best, len(along) - 1])
