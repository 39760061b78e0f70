"""Figures of merit against their definitions, counted out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from training.metrics import accuracy, average_precision, log_loss, macro_f1, precision_recall, roc_auc, threshold_for


def some(seed: int, ties: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, 60) / 8.0 if ties else rng.random(60)
    return scores, rng.integers(0, 2, 60)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ranking_metrics_are_what_counting_pairs_and_thresholds_gives(seed: int, ties: bool) -> None:
    scores, labels = some(seed, ties)
    ups, downs = scores[labels == 1], scores[labels == 0]
    pairs = [1.0 if up > down else 0.5 if up == down else 0.0 for up in ups for down in downs]
    assert roc_auc(scores, labels) == pytest.approx(np.mean(pairs))
    area, before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        precision, recall = precision_recall(scores, labels, threshold)
        area += precision * (recall - before)
        before = recall
    assert average_precision(scores, labels) == pytest.approx(area)


@pytest.mark.parametrize("wanted", [0.3, 0.5, 0.6, 0.9, 1.0])
def test_the_threshold_is_the_lowest_with_the_wanted_precision(wanted: float) -> None:
    scores, labels = some(4, ties=True)
    fine = [t for t in set(scores.tolist()) if precision_recall(scores, labels, t)[0] >= wanted]
    assert threshold_for(scores, labels, wanted) == (min(fine) if fine else scores.max())


def test_metrics_of_classes_are_what_counting_gives() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4]])
    labels = np.array([0, 1, 1, 1])
    assert accuracy(probabilities, labels) == 0.5
    assert log_loss(probabilities, labels) == pytest.approx(-np.log([0.7, 0.8, 0.4, 0.3]).mean())
    assert macro_f1(probabilities, labels) == pytest.approx((2 / 3 + 2 / 4) / 2)
    assert log_loss(np.array([0.9, 0.2]), np.array([1, 0])) == pytest.approx(-np.log([0.9, 0.8]).mean())


def test_what_cannot_be_told_is_nan_and_not_an_error() -> None:
    scores, none = np.array([0.1, 0.2]), np.array([0, 0])
    assert math.isnan(average_precision(scores, none))
    assert math.isnan(roc_auc(scores, none))
    assert math.isnan(precision_recall(scores, none, 0.9)[0])
