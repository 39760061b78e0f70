"""Neighbours counted against a scan of all pairs, and the floor that they are."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from tests.unit.training.data.rows_of_tables import neighbour_places
from training.evaluation.neighbours import NeighbourOptions, fit_neighbours

HISTORIES = [[0, 1, 2, 3], [1, 2], [4, 1, 2, 1, 1], [3, 0], [5, 3, 0, 4]]
ITEMS, LENGTH = 7, 4
OPTIONS = NeighbourOptions(window=3, decay=0.5, backwards=0.25, source_power=0.5, target_power=0.3, recency=0.6)


def _rows(histories: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Every prefix of every history, cut to its newest LENGTH items, and what came next."""
    prefixes = [(history[:end], history[end]) for history in histories for end in range(1, len(history))]
    sequences = np.zeros((len(prefixes), LENGTH), np.int32)
    for row, (prefix, _) in enumerate(prefixes):
        newest = prefix[-LENGTH:]
        sequences[row, LENGTH - len(newest) :] = np.array(newest) + 1
    return sequences, np.array([target for _, target in prefixes], np.int32)


def _scanned() -> dict[tuple[int, int], float]:
    """The weight of each ordered pair, from the histories themselves."""
    counts: defaultdict[tuple[int, int], float] = defaultdict(float)
    touches = np.bincount([item for history in HISTORIES for item in history], minlength=ITEMS)
    for history in HISTORIES:
        for late, second in enumerate(history):
            for early in range(max(0, late - OPTIONS.window), late):
                first, weight = history[early], OPTIONS.decay ** (late - early - 1)
                counts[first, second] += weight
                if first != second:
                    counts[second, first] += weight * OPTIONS.backwards
    return {
        (first, second): count / (touches[first] ** OPTIONS.source_power * touches[second] ** OPTIONS.target_power)
        for (first, second), count in counts.items()
    }


def test_scores_are_those_of_a_scan_over_all_pairs() -> None:
    found = fit_neighbours(*_rows(HISTORIES), ITEMS, OPTIONS)
    pairs, asked = _scanned(), [[5], [2, 1], [0, 3, 1], [1, 1, 4, 2]]
    sequences = np.array([[0] * (LENGTH - len(row)) + [item + 1 for item in row] for row in asked], np.int32)
    scores = found.scores(sequences)
    for row, history in enumerate(asked):
        for item in range(ITEMS):
            ages = reversed(range(len(history)))
            expected = sum(OPTIONS.recency**age * pairs.get((first, item), 0.0) for age, first in zip(ages, history, strict=True))
            assert scores[row, item] == pytest.approx(expected, abs=1e-6)


def test_popularity_counts_every_touch_once_and_orders_what_nothing_speaks_for() -> None:
    found = fit_neighbours(*_rows(HISTORIES), ITEMS, OPTIONS)
    touches = np.bincount([item for history in HISTORIES for item in history], minlength=ITEMS)
    np.testing.assert_allclose(found.popularity, touches / touches.sum())
    nothing = found.scores(np.zeros((1, LENGTH), np.int32))[0]
    assert np.argsort(-nothing, kind="stable").tolist() == np.argsort(-touches, kind="stable").tolist()


def test_a_seen_item_is_no_candidate_where_the_protocol_says_so() -> None:
    found = fit_neighbours(*_rows(HISTORIES), ITEMS, OPTIONS)
    sequences, wanted = np.array([[0, 0, 2, 3]], np.int32), np.array([1])
    free = neighbour_places(found, sequences, wanted, exclude_seen=False)
    assert free[0] < ITEMS
    assert neighbour_places(found, sequences, wanted, exclude_seen=True)[0] == ITEMS
    scores = found.scores(sequences)[0]
    others = [item for item in range(ITEMS) if item not in {1, 2}]
    best = max(others, key=lambda item: scores[item])
    assert neighbour_places(found, sequences, np.array([best]), exclude_seen=True)[0] == 0


def test_places_are_the_same_however_many_rows_are_scored_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences, targets = _rows(HISTORIES)
    found = fit_neighbours(sequences, targets, ITEMS)
    whole = neighbour_places(found, sequences, targets, exclude_seen=False)
    monkeypatch.setattr("training.evaluation.metrics._SCORES_AT_ONCE", 2 * ITEMS)
    np.testing.assert_array_equal(neighbour_places(found, sequences, targets, exclude_seen=False), whole)


def test_no_pair_at_all_is_popularity() -> None:
    found = fit_neighbours(np.zeros((0, LENGTH), np.int32), np.zeros(0, np.int32), ITEMS)
    assert neighbour_places(found, np.array([[0, 0, 0, 3]], np.int32), np.array([0]), exclude_seen=False).tolist() == [0]


def test_log_scores_keep_the_order_and_end_at_a_floor() -> None:
    found = fit_neighbours(*_rows(HISTORIES), ITEMS, OPTIONS)
    sequences = np.array([[0, 0, 2, 3], [0, 0, 0, 6], [0, 0, 0, 0]], np.int32)
    scores, logs = found.scores(sequences), found.log_scores(sequences)
    assert logs.dtype == np.float32
    assert np.isfinite(logs).all()
    np.testing.assert_allclose(logs, np.log(scores / scores.max(axis=1, keepdims=True) + 1e-3), rtol=1e-5)
    assert logs.max() == pytest.approx(np.log(1.001))
    assert logs.min() >= np.log(1e-3) - 1e-3
