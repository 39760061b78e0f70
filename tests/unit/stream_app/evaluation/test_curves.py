"""Curves against scikit-learn's, and that thinning keeps their ends and their areas."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from stream_app.evaluation.curves import confusion, precision_recall_curve, reliability, roc_curve
from stream_app.evaluation.metrics import average_precision, calibration_error, roc_auc


@pytest.mark.parametrize("rows", [50, 20_000])
def test_a_roc_curve_has_the_ends_and_the_area(rows: int) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, rows)
    scores = rng.normal(size=rows) + labels
    curve = roc_curve(scores, labels)
    assert (curve["false_positives"][0], curve["recall"][0]) == (0.0, 0.0)
    assert (curve["false_positives"][-1], curve["recall"][-1]) == (1.0, 1.0)
    assert sk.auc(curve["false_positives"], curve["recall"]) == pytest.approx(roc_auc(scores, labels), abs=2e-3)
    assert len(curve["recall"]) <= 201


@pytest.mark.parametrize("rows", [50, 20_000])
def test_a_precision_recall_curve_is_that_of_scikit_learn_at_its_points(rows: int) -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random(rows) < 0.2).astype(np.int64)
    scores = rng.normal(size=rows) + 2 * labels
    curve = precision_recall_curve(scores, labels)
    precision, recall, _ = sk.precision_recall_curve(labels, scores)
    theirs = set(zip(np.round(recall, 9), np.round(precision, 9), strict=True))
    assert set(zip(np.round(curve["recall"], 9), np.round(curve["precision"], 9), strict=True)) <= theirs
    assert curve["recall"][-1] == 1.0
    area = np.sum(np.diff(curve["recall"], prepend=0.0) * curve["precision"])
    assert area == pytest.approx(average_precision(scores, labels), abs=0.02)


def test_reliability_is_that_of_scikit_learn_and_adds_up_to_the_error() -> None:
    rng = np.random.default_rng(3)
    says = rng.random(3_000)
    labels = (rng.random(3_000) < says**2).astype(np.int64)
    curve = reliability(says, labels)
    happened, claims = calibration_curve(labels, says, n_bins=15)
    assert curve["says"] == pytest.approx(claims)
    assert curve["happened"] == pytest.approx(happened)
    gaps = np.abs(np.array(curve["says"]) - curve["happened"]) * curve["rows"]
    assert gaps.sum() / sum(curve["rows"]) == pytest.approx(calibration_error(says, labels))


def test_a_confusion_matrix_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    probabilities, labels = rng.dirichlet(np.ones(4), 200), rng.integers(0, 3, 200)
    theirs = sk.confusion_matrix(labels, probabilities.argmax(axis=1), labels=np.arange(4))
    assert confusion(probabilities, labels) == theirs.tolist()
    assert confusion(np.array([0.2, 0.7, 0.5]), np.array([0, 0, 1])) == [[1, 1], [0, 1]]
