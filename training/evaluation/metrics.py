"""Metrics of trainings beyond `stream_app.evaluation.metrics`: full rankings, and the direction of each metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_SCORES_AT_ONCE: Final = 1 << 24  # 64 MB of float32: what bounds the memory of a full ranking
_LOWER_IS_BETTER: Final = frozenset({"log_loss", "brier", "calibration_error", "ms_per_step"})
RANKS: Final = (1, 10, 20)  # the k of retrieval's metrics: what comes first, and what benchmarks report
_RANKED: Final = tuple(f"{name}_at_{k}" for name in ("recall", "ndcg", "mrr") for k in RANKS if k > 1 or name == "recall")
_OF_KIND: Final = {
    "binary": ("average_precision", "auc", "accuracy", "log_loss", "brier", "calibration_error"),
    "classes": ("accuracy", "macro_f1", "macro_auc", "log_loss", "calibration_error"),
    "retrieval": _RANKED,
}

Scores = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def higher_is_better(metric: str) -> bool:
    """Return whether more of this metric is better, with any prefix of a baseline (`logistic_log_loss`)."""
    return not any(metric == lower or metric.endswith(f"_{lower}") for lower in _LOWER_IS_BETTER)


def is_metric_of(kind: str, metric: str) -> bool:
    """Return whether every evaluation of a task of this kind has this metric, so that it can decide early stopping."""
    return metric in _OF_KIND.get(kind, ())


def ranks(users: Scores, items: Scores, targets: Labels, seen: Labels | None = None) -> NDArray[np.int64]:
    """Return `ranked_places` by inner products of `users` (B, D) and `items` (M, D), in float32."""
    users, items = users.astype(np.float32, copy=False), np.ascontiguousarray(items.T, dtype=np.float32)  # (D, M)
    return ranked_places(lambda part: users[part] @ items, items.shape[1], targets, seen)


def ranked_places(
    scores_of: Callable[[slice], Scores], items: int, targets: Labels, seen: Labels | None = None
) -> NDArray[np.int64]:
    """Return the place of each row's target among all items, 0 is the best: a full ranking without sampling.

    Equal scores stand in the order of item numbers, as a stable sort puts them. A target whose score is not a number,
    or which is among `seen`, comes last: its place is M.

    Args:
        scores_of: called with a slice of the rows, returns their scores (b, M), which are changed in place.
        items: M.
        targets: (B,) item numbers.
        seen: (B, L) item numbers that are not candidates for the row, -1 = none; None excludes nothing.
    """
    target_places = np.empty(len(targets), np.int64)
    size = max(1, _SCORES_AT_ONCE // max(1, items))
    for start in range(0, len(targets), size):
        part = slice(start, start + size)
        scores = scores_of(part)
        if seen is not None:
            row, place = np.nonzero(seen[part] >= 0)
            scores[row, seen[part][row, place]] = -np.inf
        target_places[part] = _places(scores, targets[part])
    return target_places


def _places(scores: Scores, targets: Labels) -> NDArray[np.int64]:
    own = scores[np.arange(len(scores)), targets][:, None]
    place: NDArray[np.int64] = np.count_nonzero(scores > own, axis=1).astype(np.int64)
    equal = scores == own
    tied = np.flatnonzero(np.count_nonzero(equal, axis=1) > 1)
    place[tied] += np.count_nonzero(equal[tied] & (np.arange(scores.shape[1]) < targets[tied, None]), axis=1)
    place[~np.isfinite(own[:, 0])] = scores.shape[1]
    return place


def rejection_threshold(confidence: Scores, right: NDArray[np.bool_], outside: NDArray[np.bool_]) -> float:
    """Return the confidence below which to reject: the one that gets most rows right, "outside" being one of the classes.

    `confidence` (N,) is that of the most likely class, `right` (N,) whether it is the label (anything where `outside`), `outside`
    (N,) whether the row has none of the classes.

    Source: `oos-threshold` of Larson et al., "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction",
    EMNLP 2019.
    """
    order = np.argsort(confidence, kind="stable")
    gain = np.where(outside, 1, -(right & ~outside).astype(np.int64))[order]  # of rejecting the row
    gained = np.concatenate([[0], np.cumsum(gain)])  # of rejecting the first n
    levels = np.append(confidence[order], np.inf)
    ends = np.append(True, levels[1:] != levels[:-1])  # equal confidences are rejected together
    best = int(np.argmax(np.where(ends, gained, np.iinfo(np.int64).min)))
    return float(levels[best])
