"""Figures of merit, in numpy: each a few lines, each over rows whose label is known.

What cannot be told (no positive, no row) is NaN and never an error, so that one empty group does not end a report.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "RANKS",
    "accuracy",
    "average_precision",
    "brier",
    "calibration_error",
    "card_precision_at",
    "higher_is_better",
    "is_metric_of",
    "known_compromised",
    "log_loss",
    "macro_f1",
    "mrr_at",
    "ndcg_at",
    "places",
    "precision_recall",
    "ranks",
    "recall_at",
    "rejection_threshold",
    "roc_auc",
    "threshold_for",
]

LEAST_PROBABILITY: Final = 1e-7  # a log loss counts no answer as more wrong than that
CALIBRATION_BINS: Final = 15  # of equal width, as Guo et al., "On Calibration of Modern Neural Networks", ICML 2017
_SCORES_AT_ONCE: Final = 1 << 24  # 64 MB of float32: what bounds the memory of a full ranking
_LOWER_IS_BETTER: Final = frozenset({"log_loss", "brier", "calibration_error", "ms_per_step"})
RANKS: Final = (1, 10, 20)  # the k of retrieval's metrics: what comes first, and what benchmarks report
_RANKED: Final = tuple(f"{name}_at_{k}" for name in ("recall", "ndcg", "mrr") for k in RANKS if k > 1 or name == "recall")
_OF_KIND: Final = {
    "binary": ("average_precision", "auc", "accuracy", "log_loss", "brier", "calibration_error"),
    "classes": ("accuracy", "macro_f1", "log_loss", "calibration_error"),
    "retrieval": _RANKED,
}

Scores = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def higher_is_better(metric: str) -> bool:
    """Return whether more of this metric is better, whatever prefix a floor's name has (`logistic_log_loss`)."""
    return not any(metric == lower or metric.endswith(f"_{lower}") for lower in _LOWER_IS_BETTER)


def is_metric_of(kind: str, metric: str) -> bool:
    """Return whether every evaluation of a task of this kind has this metric, so that it can decide early stopping."""
    return metric in _OF_KIND.get(kind, ())


def average_precision(scores: Scores, labels: Labels) -> float:
    """Area under precision over recall, by steps; equal scores count as one step. NaN without a positive.

    Args:
        scores: (N,), higher is more likely.
        labels: (N,) 0 or 1.
    """
    if not labels.any():
        return float("nan")
    hits, alerts = cumulative(scores, labels)
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / alerts).sum() / labels.sum())


def roc_auc(scores: Scores, labels: Labels) -> float:
    """Probability that a positive scores above a negative, ties half. NaN without one of each."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2.0  # 1 is the lowest; equal scores share their mean
    above = mean_rank[place][labels == 1].sum() - positives * (positives + 1) / 2.0
    return float(above / (positives * negatives))


def log_loss(probabilities: Scores, labels: Labels) -> float:
    """Mean of -log of the probability of what happened: (N, C) with (N,) codes, or (N,) with 0 or 1."""
    if not len(labels):
        return float("nan")
    if probabilities.ndim == 1:
        of_label = np.where(labels == 1, probabilities, 1.0 - probabilities)
    else:
        of_label = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_label, LEAST_PROBABILITY)).mean())


def brier(probabilities: Scores, labels: Labels) -> float:
    """Mean squared distance of a probability (N,) from what happened, 0 or 1."""
    return float(np.square(probabilities - labels).mean()) if len(labels) else float("nan")


def calibration_error(probabilities: Scores, labels: Labels, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error: |confidence - what happened|, over bins of equal width, weighted by their rows.

    Args:
        probabilities: (N,) of label 1, or (N, C), of which the most likely class is judged (Guo et al., ICML 2017).
        labels: (N,) 0 or 1, or codes.
        bins: how many; the first is [0, 1 / bins].
    """
    if not len(labels):
        return float("nan")
    says, happened = claimed(probabilities, labels)
    place = calibration_bin(says, bins)
    gaps = np.bincount(place, says - happened, minlength=bins)  # rows of the bin times its gap
    return float(np.abs(gaps).sum() / len(labels))


def accuracy(probabilities: Scores, labels: Labels) -> float:
    """Share of rows whose likelier answer is the label: the most likely class of (N, C), or 1 from (N,) of .5 on."""
    if not len(labels):
        return float("nan")
    answered = probabilities.argmax(axis=1) if probabilities.ndim == 2 else probabilities >= 0.5
    return float((answered == labels).mean())


def macro_f1(probabilities: Scores, labels: Labels) -> float:
    """Mean over the classes that occur of F1 of the most likely class: a rare class counts as much as a common one."""
    if not len(labels):
        return float("nan")
    answers, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    answered, occurred = np.bincount(answers, minlength=classes), np.bincount(labels, minlength=classes)
    right = np.bincount(labels[answers == labels], minlength=classes)
    there = occurred > 0
    return float((2 * right[there] / (answered[there] + occurred[there])).mean())


def precision_recall(scores: Scores, labels: Labels, threshold: float) -> tuple[float, float]:
    """Precision and recall of alerting at `scores >= threshold`; a precision without alerts is NaN."""
    alerts = scores >= threshold
    hits = int((alerts & (labels == 1)).sum())
    return hits / int(alerts.sum()) if alerts.any() else float("nan"), hits / max(1, int(labels.sum()))


def threshold_for(scores: Scores, labels: Labels, precision: float) -> float:
    """Return the lowest threshold whose alerts have at least this precision; the highest score if none has."""
    hits, alerts = cumulative(scores, labels)
    fine = np.flatnonzero(hits >= precision * alerts)
    return float(np.unique(scores)[::-1][fine[-1] if len(fine) else 0])


def ranks(
    users: Scores,
    items: Scores,
    wanted: Labels,
    seen: Labels | None = None,
    extra: Callable[[int, int], Scores] | None = None,
) -> NDArray[np.int64]:
    """Return the place of each row's wanted item among all items, 0 is the best: full ranking, nothing is sampled.

    Equal scores stand in the order of item numbers, as a stable sort puts them. A wanted item whose score is not a number,
    or which is among `seen`, comes last: its place is M.

    Args:
        users: (B, D).
        items: (M, D); the score is the inner product.
        wanted: (B,) item numbers.
        seen: (B, L) item numbers that are not candidates for the row, -1 = none; None excludes nothing.
        extra: called with (start, stop), answers (stop - start, M) that are added to the scores of those rows.
    """
    users, items = users.astype(np.float32, copy=False), np.ascontiguousarray(items.T, dtype=np.float32)  # (D, M)
    count = items.shape[1]
    found = np.empty(len(users), np.int64)
    size = max(1, _SCORES_AT_ONCE // max(1, count))
    for start in range(0, len(users), size):
        part = slice(start, start + size)
        scores = users[part] @ items  # (b, M)
        if extra is not None:
            scores += extra(start, start + len(scores))
        if seen is not None:
            row, place = np.nonzero(seen[part] >= 0)
            scores[row, seen[part][row, place]] = -np.inf
        found[part] = places(scores, wanted[part])
    return found


def places(scores: Scores, wanted: Labels) -> NDArray[np.int64]:
    """Return the place of each row's wanted item by `scores` (B, M), as `ranks` does; `wanted` (B,) item numbers."""
    own = scores[np.arange(len(scores)), wanted][:, None]
    found: NDArray[np.int64] = np.count_nonzero(scores > own, axis=1).astype(np.int64)
    equal = scores == own
    tied = np.flatnonzero(np.count_nonzero(equal, axis=1) > 1)
    found[tied] += np.count_nonzero(equal[tied] & (np.arange(scores.shape[1]) < wanted[tied, None]), axis=1)
    found[~np.isfinite(own[:, 0])] = scores.shape[1]
    return found


def recall_at(ranked: NDArray[np.int64], k: int) -> float:
    """Share of rows whose wanted item is among the first k; `ranked` (B,) from 0, as `ranks` answers."""
    return float((ranked < k).mean()) if len(ranked) else float("nan")


def ndcg_at(ranked: NDArray[np.int64], k: int) -> float:
    """Mean of 1 / log2(place + 2) within the first k, else 0: normalised discounted gain with one relevant item."""
    return float(np.where(ranked < k, 1.0 / np.log2(ranked + 2.0), 0.0).mean()) if len(ranked) else float("nan")


def mrr_at(ranked: NDArray[np.int64], k: int) -> float:
    """Mean of 1 / (place + 1) within the first k, else 0."""
    return float(np.where(ranked < k, 1.0 / (ranked + 1.0), 0.0).mean()) if len(ranked) else float("nan")


def known_compromised(days: Labels, cards: Labels, labels: Labels, delay_days: int) -> NDArray[np.bool_]:
    """Return for each row (N,) whether its card had a fraud that was known before the row's day began.

    A fraud of day f is known from day f + delay_days + 1 on. Only the frauds given are known: give the rows from the first
    training day on, those of the delay between training and test too.

    Source: `get_train_test_set` of Le Borgne et al., "Reproducible Machine Learning for Credit Card Fraud Detection:
    Practical Handbook", 2022.
    """
    _, card = np.unique(cards, return_inverse=True)
    first = np.full(int(card.max(initial=-1)) + 1, np.iinfo(np.int64).max, np.int64)  # day of the card's first fraud
    np.minimum.at(first, card[labels == 1], days[labels == 1].astype(np.int64))
    known: NDArray[np.bool_] = days.astype(np.int64) - delay_days - 1 >= first[card]
    return known


def card_precision_at(scores: Scores, labels: Labels, days: Labels, cards: Labels, budget: int) -> float:
    """Return the mean over days of: compromised cards among the `budget` cards of the highest score, over `budget`.

    A card scores as its highest transaction of the day; a card that was found is blocked, so on later days it is no candidate.

    Source: `card_precision_top_k` of Le Borgne et al. (2022), as above.

    Args:
        scores: (N,) of transactions.
        labels: (N,) 1 = fraud.
        days: (N,) day numbers.
        cards: (N,) whose transaction it is.
        budget: cards that can be looked into in a day.
    """
    shares: list[float] = []
    blocked = np.zeros(0, cards.dtype)
    for day in np.unique(days):
        now = (days == day) & ~np.isin(cards, blocked)
        of_day, card = np.unique(cards[now], return_inverse=True)
        highest, fraud = np.full(len(of_day), -np.inf), np.zeros(len(of_day), np.bool_)
        np.maximum.at(highest, card, scores[now])
        np.logical_or.at(fraud, card, labels[now] == 1)
        first = np.argsort(-highest, kind="stable")[:budget]
        found = of_day[first[fraud[first]]]
        shares.append(len(found) / budget)
        blocked = np.concatenate([blocked, found])
    return float(np.mean(shares)) if shares else float("nan")


def rejection_threshold(confidence: Scores, right: NDArray[np.bool_], outside: NDArray[np.bool_]) -> float:
    """Return the confidence below which to refuse: what gets most rows right, "outside" being a class like any other.

    Source: `oos-threshold` of Larson et al., "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction",
    EMNLP 2019.

    Args:
        confidence: (N,) of the most likely class.
        right: (N,) whether that class is the label; anything where `outside`.
        outside: (N,) whether the row has none of the classes.
    """
    order = np.argsort(confidence, kind="stable")
    gain = np.where(outside, 1, -(right & ~outside).astype(np.int64))[order]  # of refusing the row
    gained = np.concatenate([[0], np.cumsum(gain)])  # of refusing the first n
    levels = np.append(confidence[order], np.inf)
    ends = np.append(True, levels[1:] != levels[:-1])  # equal confidences are refused together
    best = int(np.argmax(np.where(ends, gained, np.iinfo(np.int64).min)))
    return float(levels[best])


def claimed(probabilities: Scores, labels: Labels) -> tuple[Scores, Scores]:
    """Return (says (N,), happened (N,) 0 or 1): label 1 for (N,) probabilities, the most likely class for (N, C)."""
    if probabilities.ndim == 1:
        return probabilities, labels.astype(np.float64)
    return probabilities.max(axis=1), (probabilities.argmax(axis=1) == labels).astype(np.float64)


def calibration_bin(says: Scores, bins: int) -> NDArray[np.int64]:
    """Return the bin (N,) of each probability (N,): the first is [0, 1 / bins], the others open below and closed above."""
    place: NDArray[np.int64] = np.clip(np.ceil(says * bins).astype(np.int64) - 1, 0, bins - 1)
    return place


def cumulative(scores: Scores, labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hits and alerts at each distinct score as the threshold, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(labels[order].astype(np.int64))[ends]
    return hits, ends.astype(np.int64) + 1
