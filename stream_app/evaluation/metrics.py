"""Metrics in numpy, over rows whose label is known, for trainings and backtests alike.

An undefined value (no positive, no row) is NaN and never an error, so that one empty group does not end a report.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEAST_PROBABILITY: Final = 1e-7  # lower bound of probabilities in a log loss
CALIBRATION_BINS: Final = 15  # of equal width, as Guo et al., "On Calibration of Modern Neural Networks", ICML 2017

Scores = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Weights = NDArray[np.float64]


class Ranking:
    """Rows sorted by score, to compute metrics repeatedly with different weights.

    Args:
        scores: (N,), higher is more likely.
        labels: (N,) 0 or 1.
        group: (N,) number of each row's group, where weights belong to groups of rows such as users; None: to rows.
    """

    def __init__(self, scores: Scores, labels: Labels, group: NDArray[np.int64] | None = None) -> None:
        order = np.argsort(-scores, kind="stable")
        descending = scores[order]
        self._group = order if group is None else group[order]
        self._label = labels[order].astype(np.float64)
        self._ends = np.flatnonzero(np.append(np.diff(descending), 1.0)[: len(scores)])  # equal scores are one step
        self.thresholds = descending[self._ends]

    def cumulative(self, weights: Weights) -> tuple[Weights, Weights]:
        """Return hits and alerts at each distinct score as the threshold, from the highest down; weights by row or group."""
        weight = weights[self._group]
        return np.cumsum(weight * self._label)[self._ends], np.cumsum(weight)[self._ends]

    def average_precision(self, weights: Weights) -> float:
        """Return the area under precision over recall, by steps; NaN without a positive."""
        hits, alerts = self.cumulative(weights)
        if not len(hits) or not hits[-1]:
            return float("nan")
        drawn = alerts > 0
        return float((np.diff(hits, prepend=0.0)[drawn] * hits[drawn] / alerts[drawn]).sum() / hits[-1])

    def roc_auc(self, weights: Weights) -> float:
        """Return the probability that a positive scores above a negative, ties half; NaN without one of each."""
        hits, alerts = self.cumulative(weights)
        false = alerts - hits
        if not len(hits) or not hits[-1] or not false[-1]:
            return float("nan")
        height = (hits + np.append(0.0, hits[:-1])) / 2.0
        return float((np.diff(false, prepend=0.0) * height).sum() / (hits[-1] * false[-1]))


def average_precision(scores: Scores, labels: Labels) -> float:
    """Area under precision over recall of (N,) scores and labels, each row once; see `Ranking.average_precision`."""
    return Ranking(scores, labels).average_precision(np.ones(len(scores)))


def roc_auc(scores: Scores, labels: Labels) -> float:
    """Probability that a positive scores above a negative, each row once; see `Ranking.roc_auc`."""
    return Ranking(scores, labels).roc_auc(np.ones(len(scores)))


def log_loss(probabilities: Scores, labels: Labels) -> float:
    """Mean of -log of the label's probability: (N, C) with (N,) codes, or (N,) with 0 or 1; NaN without any."""
    return float(log_losses(probabilities, labels).mean()) if len(labels) else float("nan")


def log_losses(probabilities: Scores, labels: Labels) -> NDArray[np.float64]:
    """Return -log of the label's probability, (N,), of which `log_loss` is the mean."""
    if probabilities.ndim == 1:
        of_label = np.where(labels == 1, probabilities, 1.0 - probabilities)
    else:
        of_label = probabilities[np.arange(len(labels)), labels]
    losses: NDArray[np.float64] = -np.log(np.maximum(of_label, LEAST_PROBABILITY))
    return losses


def brier(probabilities: Scores, labels: Labels) -> float:
    """Mean squared distance of probabilities (N,) from labels 0 or 1."""
    return float(np.square(probabilities - labels).mean()) if len(labels) else float("nan")


def calibration_error(probabilities: Scores, labels: Labels, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error: |confidence - observed share|, over bins of equal width, weighted by their rows.

    Probabilities are (N,) of label 1 with labels 0 or 1, or (N, C) with codes, of which the most likely class counts (Guo et al.,
    ICML 2017).
    """
    if not len(labels):
        return float("nan")
    confidence, outcome = confidence_and_outcome(probabilities, labels)
    place = calibration_bin(confidence, bins)
    gaps = np.bincount(place, confidence - outcome, minlength=bins)  # rows of the bin times its gap
    return float(np.abs(gaps).sum() / len(labels))


def accuracy(probabilities: Scores, labels: Labels) -> float:
    """Share of rows with a right prediction: the most likely class of (N, C), or class 1 from .5 on of (N,)."""
    if not len(labels):
        return float("nan")
    predictions = probabilities.argmax(axis=1) if probabilities.ndim == 2 else probabilities >= 0.5
    return float((predictions == labels).mean())


def macro_f1(probabilities: Scores, labels: Labels) -> float:
    """Mean over the classes that occur of F1 of the most likely class: a rare class counts as much as a common one."""
    if not len(labels):
        return float("nan")
    predictions, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    predicted, occurred = np.bincount(predictions, minlength=classes), np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predictions == labels], minlength=classes)
    present = occurred > 0
    return float((2 * right[present] / (predicted[present] + occurred[present])).mean())


def macro_auc(scores: Scores, labels: Labels) -> float:
    """Mean over the classes that occur of how well a class's score (N, C) tells its rows from all others (`roc_auc`).

    It depends on no threshold and no class frequency: always predicting the commonest class is worth .5, where its accuracy may
    be .9. NaN with fewer than two classes.
    """
    each = [roc_auc(scores[:, code], (labels == code).astype(np.int64)) for code in np.unique(labels)]
    return float(np.mean(each)) if len(each) > 1 else float("nan")


def precision_recall(scores: Scores, labels: Labels, threshold: float) -> tuple[float, float]:
    """Precision and recall of alerting at `scores >= threshold`; a precision without alerts is NaN."""
    alerts = scores >= threshold
    hits = int((alerts & (labels == 1)).sum())
    return hits / int(alerts.sum()) if alerts.any() else float("nan"), hits / max(1, int(labels.sum()))


def threshold_for(scores: Scores, labels: Labels, precision: float) -> float:
    """Return the lowest threshold whose alerts have at least this precision; the highest score if none has."""
    hits, alerts = cumulative(scores, labels)
    precise = np.flatnonzero(hits >= precision * alerts)
    return float(np.unique(scores)[::-1][precise[-1] if len(precise) else 0])


def recall_at(ranked: NDArray[np.int64], k: int) -> float:
    """Share of rows whose target is among the first k; `ranked` (B,) are places from 0, as `ranks` returns."""
    return float((ranked < k).mean()) if len(ranked) else float("nan")


def ndcg_at(ranked: NDArray[np.int64], k: int) -> float:
    """Mean of 1 / log2(place + 2) within the first k, else 0: normalised discounted gain with one relevant item."""
    return float(np.where(ranked < k, 1.0 / np.log2(ranked + 2.0), 0.0).mean()) if len(ranked) else float("nan")


def mrr_at(ranked: NDArray[np.int64], k: int) -> float:
    """Mean of 1 / (place + 1) within the first k, else 0."""
    return float(np.where(ranked < k, 1.0 / (ranked + 1.0), 0.0).mean()) if len(ranked) else float("nan")


def confidence_and_outcome(probabilities: Scores, labels: Labels) -> tuple[Scores, Scores]:
    """Return (confidence (N,), outcome (N,) 0 or 1): of label 1 for (N,) probabilities, the most likely class for (N, C)."""
    if probabilities.ndim == 1:
        return probabilities, labels.astype(np.float64)
    return probabilities.max(axis=1), (probabilities.argmax(axis=1) == labels).astype(np.float64)


def calibration_bin(confidence: Scores, bins: int) -> NDArray[np.int64]:
    """Return the bin (N,) of each probability (N,): the first is [0, 1 / bins], the others open below and closed above."""
    place: NDArray[np.int64] = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return place


def cumulative(scores: Scores, labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hits and alerts at each distinct score as the threshold, from the highest down, each row once."""
    hits, alerts = Ranking(scores, labels).cumulative(np.ones(len(scores)))
    return hits.astype(np.int64), alerts.astype(np.int64)
