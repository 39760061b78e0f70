"""Full rankings against a sorted list and scikit-learn, and which way of two figures is better."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from stream_app.evaluation.metrics import mrr_at, ndcg_at, recall_at
from training.evaluation.metrics import higher_is_better, is_metric_of, ranks, rejection_threshold

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def brute_places(users: Floats, items: Floats, wanted: Ints, seen: Ints | None) -> list[int]:
    places = []
    for row, item in enumerate(wanted):
        scores = users[row] @ items.T
        candidates = [n for n in range(len(items)) if seen is None or n not in seen[row]]
        order = sorted(candidates, key=lambda n: (-scores[n], n))
        places.append(order.index(item) if item in order else len(items))
    return places


@pytest.mark.parametrize("at_once", [40, 1 << 20])
@pytest.mark.parametrize("excluding", [False, True])
def test_ranks_are_the_places_in_a_sorted_list_of_all_items(
    at_once: int, excluding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.evaluation.metrics._SCORES_AT_ONCE", at_once)  # a row at a time, or all
    rng = np.random.default_rng(7)
    users, items = rng.integers(-2, 3, (25, 3)).astype(float), rng.integers(-2, 3, (40, 3)).astype(float)  # many ties
    wanted = rng.integers(0, 40, 25)
    seen = rng.integers(-1, 40, (25, 6)) if excluding else None
    assert ranks(users, items, wanted, seen).tolist() == brute_places(users, items, wanted, seen)


def test_ranking_metrics_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(8)
    users, items, wanted = rng.normal(size=(50, 4)), rng.normal(size=(30, 4)), rng.integers(0, 30, 50)
    scores, truth = users @ items.T, np.eye(30)[wanted]
    places = ranks(users, items, wanted)
    assert ndcg_at(places, 10) == pytest.approx(sk.ndcg_score(truth, scores, k=10))
    assert recall_at(places, 10) == pytest.approx(sk.top_k_accuracy_score(wanted, scores, k=10, labels=np.arange(30)))
    assert mrr_at(places, 30) == pytest.approx(sk.label_ranking_average_precision_score(truth, scores))
    assert mrr_at(places, 5) == pytest.approx(np.mean([1 / (p + 1) if p < 5 else 0 for p in places]))


def test_an_item_whose_score_is_not_a_number_comes_last() -> None:
    users, items = np.array([[np.nan], [1.0]]), np.array([[3.0], [2.0], [1.0]])
    assert ranks(users, items, np.array([0, 1])).tolist() == [3, 1]


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_rejection_threshold_gets_at_least_as_many_right_as_any_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sure, right, outside = rng.integers(0, 12, 80) / 12.0, rng.random(80) < 0.8, rng.random(80) < 0.3

    def correct(threshold: float) -> int:
        refused = sure < threshold
        return int((refused & outside).sum() + (~refused & right & ~outside).sum())

    best = rejection_threshold(sure, right, outside)
    assert correct(best) == max(correct(t) for t in [*np.unique(sure), np.inf])


def test_which_metrics_a_kind_has_and_which_way_is_better() -> None:
    assert is_metric_of("binary", "average_precision")
    assert not is_metric_of("binary", "macro_f1")
    assert is_metric_of("classes", "macro_f1")
    assert is_metric_of("retrieval", "ndcg_at_10")
    assert is_metric_of("retrieval", "recall_at_1")
    assert not is_metric_of("retrieval", "ndcg_at_1")  # the same as recall_at_1
    assert not is_metric_of("retrieval", "ndcg_at_7")
    assert not is_metric_of("poetry", "accuracy")
    assert higher_is_better("auc")
    assert not higher_is_better("log_loss")
    assert not higher_is_better("logistic_log_loss")
