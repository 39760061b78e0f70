"""Figures of merit, in numpy: each a few lines, each over rows whose label is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["accuracy", "average_precision", "log_loss", "macro_f1", "precision_recall", "roc_auc", "threshold_for"]

_LEAST_PROBABILITY = 1e-7  # a log loss counts no answer as more wrong than that

Scores = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def average_precision(scores: Scores, labels: Labels) -> float:
    """Area under precision over recall, by steps; equal scores count as one step. NaN without a positive.

    Args:
        scores: (N,), higher is more likely.
        labels: (N,) 0 or 1.
    """
    if not labels.any():
        return float("nan")
    hits, alerts = _cumulative(scores, labels)
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
    if probabilities.ndim == 1:
        of_label = np.where(labels == 1, probabilities, 1.0 - probabilities)
    else:
        of_label = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_label, _LEAST_PROBABILITY)).mean())


def accuracy(probabilities: Scores, labels: Labels) -> float:
    """Share of rows (N, C) whose most likely class is the label."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def macro_f1(probabilities: Scores, labels: Labels) -> float:
    """Mean over the classes that occur of F1 of the most likely class: a rare class counts as much as a common one."""
    answers = probabilities.argmax(axis=1)
    scores = []
    for label in np.unique(labels):
        right = int(((answers == label) & (labels == label)).sum())
        scores.append(2 * right / (int((answers == label).sum()) + int((labels == label).sum())))
    return float(np.mean(scores))


def precision_recall(scores: Scores, labels: Labels, threshold: float) -> tuple[float, float]:
    """Precision and recall of alerting at `scores >= threshold`; a precision without alerts is NaN."""
    alerts = scores >= threshold
    hits = int((alerts & (labels == 1)).sum())
    return hits / int(alerts.sum()) if alerts.any() else float("nan"), hits / max(1, int(labels.sum()))


def threshold_for(scores: Scores, labels: Labels, precision: float) -> float:
    """Return the lowest threshold whose alerts have at least this precision; the highest score if none has."""
    hits, alerts = _cumulative(scores, labels)
    fine = np.flatnonzero(hits >= precision * alerts)
    return float(np.unique(scores)[::-1][fine[-1] if len(fine) else 0])


def _cumulative(scores: Scores, labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hits and alerts at each distinct score as the threshold, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(labels[order].astype(np.int64))[ends]
    return hits, ends.astype(np.int64) + 1
