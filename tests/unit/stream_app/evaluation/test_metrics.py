"""Figures of merit against scikit-learn and against their definitions, counted out; those that decide: beside this file."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from stream_app.evaluation.card_precision import card_precision_at, known_compromised
from stream_app.evaluation.metrics import (
    accuracy,
    average_precision,
    brier,
    calibration_error,
    log_loss,
    macro_auc,
    macro_f1,
    mrr_at,
    ndcg_at,
    precision_recall,
    recall_at,
    roc_auc,
    threshold_for,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CARDS = Path(__file__).parents[5] / "shared" / "data" / "fraud" / "card_transactions_apr_aug_2018.parquet"


def some(seed: int, ties: bool, count: int = 60) -> tuple[Floats, Ints]:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, count) / 8.0 if ties else rng.random(count)
    return scores, rng.integers(0, 2, count)


def some_classes(seed: int, classes: int = 5, count: int = 300) -> tuple[Floats, Ints]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(classes, 0.5), count), rng.integers(0, classes, count)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_metrics_of_binary_tasks_are_those_of_scikit_learn(seed: int, ties: bool) -> None:
    scores, labels = some(seed, ties)
    assert roc_auc(scores, labels) == pytest.approx(sk.roc_auc_score(labels, scores))
    assert average_precision(scores, labels) == pytest.approx(sk.average_precision_score(labels, scores))
    assert brier(scores, labels) == pytest.approx(sk.brier_score_loss(labels, scores))
    assert accuracy(scores, labels) == pytest.approx(sk.accuracy_score(labels, scores >= 0.5))
    inside = np.clip(scores, 1e-6, 1 - 1e-6)
    assert log_loss(inside, labels) == pytest.approx(sk.log_loss(labels, inside))
    alerts = scores >= 0.6
    precision, recall = precision_recall(scores, labels, 0.6)
    assert (precision, recall) == pytest.approx((sk.precision_score(labels, alerts), sk.recall_score(labels, alerts)))


@pytest.mark.parametrize("seed", [1, 2])
def test_metrics_of_classes_are_those_of_scikit_learn(seed: int) -> None:
    probabilities, labels = some_classes(seed)
    answers = probabilities.argmax(axis=1)
    assert accuracy(probabilities, labels) == pytest.approx(sk.accuracy_score(labels, answers))
    assert macro_f1(probabilities, labels) == pytest.approx(sk.f1_score(labels, answers, average="macro"))
    bounded = np.clip(probabilities, 1e-6, None)
    bounded /= bounded.sum(axis=1, keepdims=True)
    assert log_loss(bounded, labels) == pytest.approx(sk.log_loss(labels, bounded))


@pytest.mark.parametrize("wanted", [0.3, 0.5, 0.6, 0.9, 1.0])
def test_the_threshold_is_the_lowest_with_the_wanted_precision(wanted: float) -> None:
    scores, labels = some(4, ties=True)
    fine = [t for t in set(scores.tolist()) if precision_recall(scores, labels, t)[0] >= wanted]
    assert threshold_for(scores, labels, wanted) == (min(fine) if fine else scores.max())


def test_macro_auc_is_the_mean_of_each_class_against_all_others_and_always_the_commonest_is_worth_a_half() -> None:
    draw = np.random.default_rng(6)
    scores, labels = draw.dirichlet(np.ones(4), 300), draw.integers(0, 3, 300)  # the fourth class never occurs
    each = [sk.roc_auc_score(labels == code, scores[:, code]) for code in range(3)]
    assert macro_auc(scores, labels) == pytest.approx(np.mean(each))
    assert macro_auc(np.tile([0.9, 0.05, 0.03, 0.02], (300, 1)), labels) == pytest.approx(0.5)
    assert math.isnan(macro_auc(scores, np.zeros(300, np.int64)))


def test_a_class_that_never_occurs_does_not_count_in_macro_f1() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4]])
    assert macro_f1(probabilities, np.array([0, 1, 1, 1])) == pytest.approx((2 / 3 + 2 / 4) / 2)


def test_the_calibration_error_is_the_weighted_gap_of_each_bin_counted_out() -> None:
    says, labels = some(5, ties=False, count=500)
    total = 0.0
    for low in np.arange(0.0, 1.0, 0.1):
        here = (says > low) & (says <= low + 0.1) if low > 0.0 else says <= 0.1
        total += abs(float(says[here].sum()) - float(labels[here].sum()))
    assert calibration_error(says, labels, bins=10) == pytest.approx(total / len(says))


def test_what_says_the_truth_has_a_small_calibration_error_and_what_is_too_sure_a_large_one() -> None:
    rng = np.random.default_rng(6)
    says = rng.random(40_000)
    labels = (rng.random(40_000) < says).astype(np.int64)
    assert calibration_error(says, labels) < 0.02
    assert calibration_error(np.where(says > 0.5, 0.99, 0.01), labels) > 0.2
    both = np.stack([1.0 - says, says], axis=1)  # of classes: the confidence in the answer
    assert calibration_error(both, labels) < 0.02


def test_a_card_is_known_to_be_compromised_from_the_day_after_the_delay_on() -> None:
    #   day        0       8       9       20
    #   card 1     fraud   -       -       -      known from day 8 on (0 + 7 + 1)
    #   card 2     -       fraud   -       -      known from day 16 on
    days, cards = np.array([0, 7, 8, 9, 8, 9, 15, 16, 20]), np.array([1, 1, 1, 1, 2, 2, 2, 2, 3])
    frauds = np.array([1, 0, 0, 0, 1, 0, 0, 0, 1])
    assert known_compromised(days, cards, frauds, 7).tolist() == [False, False, True, True, False, False, False, True, False]


def test_what_cannot_be_told_is_nan_and_not_an_error() -> None:
    scores, none, no_labels = np.array([0.1, 0.2]), np.array([0, 0]), np.zeros(0, np.int64)
    assert math.isnan(average_precision(scores, none))
    assert math.isnan(roc_auc(scores, none))
    assert math.isnan(precision_recall(scores, none, 0.9)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for way in (accuracy, log_loss, macro_f1, calibration_error, brier, roc_auc, average_precision):
            assert math.isnan(way(np.zeros(0), no_labels))
        assert math.isnan(macro_f1(np.zeros((0, 3)), no_labels))
        assert math.isnan(macro_auc(np.zeros((0, 3)), no_labels))
        for ranked in (recall_at, ndcg_at, mrr_at):
            assert math.isnan(ranked(no_labels, 10))
        assert math.isnan(card_precision_at(np.zeros(0), no_labels, no_labels, no_labels, 10))


@pytest.mark.skipif(not CARDS.exists(), reason="the card transactions of ../shared/data are absent")
def test_the_rows_that_are_judged_are_those_of_the_handbook() -> None:
    # Its chapter 5.2: 67,240 transactions to train on, 58,264 to judge, of which 385 are frauds.
    query = f"select epoch_ms(time) as at, customer_id, fraud from '{CARDS}' where time between '2018-07-25' and '2018-08-15'"
    found = duckdb.connect().execute(query).fetchnumpy()
    days, frauds = np.asarray(found["at"], np.int64) // 86_400_000, np.asarray(found["fraud"], np.int64)
    first = int(days.min())
    judged = (days >= first + 14) & ~known_compromised(days, np.asarray(found["customer_id"], np.int64), frauds, 7)
    assert int((days < first + 7).sum()) == 67_240
    assert int(judged.sum()) == 58_264
    assert int(frauds[judged].sum()) == 385
