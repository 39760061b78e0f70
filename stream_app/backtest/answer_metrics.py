"""Metrics of a contender's intent, next action and recommended items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.evaluation import curves
from stream_app.evaluation.bootstrap import BootstrapSamples, Figures, interval_of
from stream_app.evaluation.metrics import log_losses
from stream_app.evaluation.recommendation_metrics import RecommendationFigures

_RANKS: Final = (1, 10, 20)  # the lists of a worker hold 20


def class_figures(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], names: Sequence[str], draws: BootstrapSamples
) -> Figures:
    """Evaluate predicted classes by `probabilities` (K, C) and `labels` (K,), which are codes; `draws` are of the K users.

    Returns:
        `accuracy` and `log_loss` with intervals, `classes` (name -> precision and recall with intervals, rows), `confusion`
        [label][prediction], `commonest` class and its share, `reliability`.
    """
    predictions = probabilities.argmax(axis=1)
    classes: dict[str, Any] = {}
    for code, name in enumerate(names):
        actual, predicted = labels == code, predictions == code
        classes[name] = {
            "rows": int(actual.sum()),
            "precision": interval_of(draws.ratios(actual & predicted, predicted)),
            "recall": interval_of(draws.ratios(actual & predicted, actual)),
        }
    ones = np.ones(len(labels))
    drawn = {
        "accuracy": draws.ratios(predictions == labels, ones),
        "log_loss": draws.ratios(log_losses(probabilities.astype(np.float64), labels), ones),
    }
    counts = np.bincount(labels, minlength=len(names))
    figures = _with_intervals(drawn) | {
        "events": len(labels),
        "classes": classes,
        "confusion": curves.confusion(probabilities, labels),
        "commonest": names[int(counts.argmax())],
        "commonest_share": float(counts.max() / max(1, len(labels))),
        "reliability": curves.reliability(probabilities, labels) if len(labels) else {},
    }
    return Figures(figures, drawn)


def recommendation_figures(rows: RecommendationFigures, draws: BootstrapSamples, coverage: float) -> Figures:
    """Evaluate lists of items of K events that another item followed; `coverage` is the recommended share of all items.

    Returns:
        `recall_at_k` and `ndcg_at_k` (one relevant item), `novelty` in bits and `new_item_share`, with intervals; `coverage`.
    """
    place = rows.place.astype(np.float64)
    ones = np.ones(len(place))
    per_event: dict[str, NDArray[Any]] = {f"recall_at_{k}": place < k for k in _RANKS}
    per_event |= {f"ndcg_at_{k}": np.where(place < k, 1.0 / np.log2(place + 2.0), 0.0) for k in _RANKS if k > 1}
    per_event |= {"novelty": rows.novelty, "new_item_share": rows.new}
    drawn = {name: draws.ratios(part, ones) for name, part in per_event.items()}
    return Figures(_with_intervals(drawn) | {"events": len(place), "coverage": coverage}, drawn)


def _with_intervals(drawn: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    return {name: interval_of(values) for name, values in drawn.items()}
