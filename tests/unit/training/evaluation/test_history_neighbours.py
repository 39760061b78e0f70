"""Near histories against a scan of all of them, and when they are what stands beside a network."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from model.inputs import SequenceInputs
from model.tasks import Task
from stream_app.errors import ContractError
from training.data.dataset import Dataset
from training.evaluation.history_neighbours import HistoryNeighbours, HistoryOptions, fit_history_neighbours
from training.evaluation.neighbours import Neighbours, neighbours_of

ITEMS, LENGTH = 9, 6
OPTIONS = HistoryOptions(recency=0.6, rarity=0.4, length_power=0.5, age=0.7, nearest=3, distance=0.5, before=0.4, again=0.9)
HISTORIES = [[0, 1, 2, 3], [1, 2], [4, 1, 2, 1, 5], [3, 0], [5, 3, 0, 4], [2, 6, 2], [7, 1, 6]]


def _rows(histories: list[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    prefixes = [(owner, items[:end], items[end]) for owner, items in enumerate(histories) for end in range(1, len(items))]
    sequences = np.array([[0] * (LENGTH - len(before)) + [item + 1 for item in before] for _, before, _ in prefixes], np.int32)
    owners, targets = np.array([owner for owner, _, _ in prefixes]), np.array([target for _, _, target in prefixes], np.int32)
    return sequences, targets, owners


def _fitted() -> HistoryNeighbours:
    sequences, targets, owners = _rows(HISTORIES)
    return fit_history_neighbours(sequences, targets, owners, np.zeros(len(owners), np.int64), ITEMS, OPTIONS)


def _scanned(asked: list[int]) -> np.ndarray:
    touches = np.bincount([item for history in HISTORIES for item in history], minlength=ITEMS)
    likeness: dict[int, tuple[float, int]] = {}
    for number, history in enumerate(HISTORIES):
        shared = [(len(asked) - 1 - place, item) for place, item in enumerate(asked) if item in history]
        total = sum(OPTIONS.recency**back / touches[item] ** OPTIONS.rarity * history.count(item) for back, item in shared)
        if shared:
            newest = min(shared)[1]
            last = len(history) - 1 - history[::-1].index(newest)
            aged = np.exp(-OPTIONS.age * (len(HISTORIES) - 1 - number) / (len(HISTORIES) - 1))
            likeness[number] = (total / len(history) ** OPTIONS.length_power * aged, last)
    scores: defaultdict[int, float] = defaultdict(float)
    for number in sorted(likeness, key=lambda each: -likeness[each][0])[: OPTIONS.nearest]:
        value, at = likeness[number]
        for place, item in enumerate(HISTORIES[number]):
            weight = OPTIONS.again if place == at else OPTIONS.distance ** (abs(place - at) - 1)
            scores[item] += value * weight * (OPTIONS.before if place < at else 1.0)
    return np.array([scores[item] for item in range(ITEMS)])


@pytest.mark.parametrize("asked", [[5], [2, 1], [0, 3, 1], [1, 1, 4, 2], [8], [6, 0, 2]])
def test_evidence_is_that_of_a_scan_over_all_histories(asked: list[int]) -> None:
    sequence = np.array([[0] * (LENGTH - len(asked)) + [item + 1 for item in asked]], np.int32)
    np.testing.assert_allclose(_fitted().evidence(sequence)[0], _scanned(asked), rtol=1e-9, atol=1e-12)


def test_rows_asked_together_answer_as_each_alone() -> None:
    sequences, _, _ = _rows(HISTORIES)
    fitted = _fitted()
    together = fitted.evidence(sequences)
    for row, sequence in enumerate(sequences):
        np.testing.assert_allclose(together[row], fitted.evidence(sequence[None])[0])


def test_histories_are_put_together_from_rows_in_any_order_of_owners_and_by_time() -> None:
    sequences, targets, owners = _rows(HISTORIES)
    late_first = np.argsort(-owners, kind="stable")
    times = (owners * 1_000)[late_first]
    found = fit_history_neighbours(sequences[late_first], targets[late_first], 100 - owners[late_first], times, ITEMS, OPTIONS)
    expected = _fitted()
    assert found.items.tolist() == expected.items.tolist() == [item for history in HISTORIES for item in history]
    assert found.starts.tolist() == expected.starts.tolist()


def test_no_history_at_all_says_nothing() -> None:
    none = np.zeros(0, np.int64)
    found = fit_history_neighbours(np.zeros((0, LENGTH), np.int32), none, none, none, ITEMS)
    assert not found.evidence(np.array([[0, 0, 0, 0, 1, 2]], np.int32)).any()


def _dataset(histories: list[list[int]]) -> Dataset:
    sequences, targets, owners = _rows(histories)
    zeros = np.zeros(len(targets), np.int8)
    return Dataset(
        inputs={"sequence": sequences},
        labels={"next_item": targets},
        split=zeros,
        segment=zeros,
        time_ms=zeros.astype(np.int64),
        key=owners,
        tasks=(Task(name="next_item", kind="retrieval", label="next_item"),),
        spec=SequenceInputs(items=ITEMS, length=LENGTH),
    )


def test_where_items_come_again_histories_are_asked_and_else_pairs_of_items() -> None:
    assert isinstance(neighbours_of(_dataset(HISTORIES), "next_item"), HistoryNeighbours)
    assert isinstance(neighbours_of(_dataset([[0, 1, 2], [3, 1, 4]]), "next_item"), Neighbours)


def test_rows_that_are_no_sequences_are_refused_with_the_keys_to_change() -> None:
    from dataclasses import replace

    from model.inputs import TableInputs

    with pytest.raises(ContractError, match=r"TableInputs.*evaluation\.neighbour_weight = 0"):
        neighbours_of(replace(_dataset(HISTORIES), spec=TableInputs(dense=1)), "next_item")
