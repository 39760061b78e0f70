"""The candidate index: exact, stable, the same in any batch."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_app.errors import ContractError
from stream_app.inference.candidates import CandidateIndex

DIM = 32


def make_index(items: int, seed: int = 0) -> tuple[CandidateIndex, NDArray[np.float32]]:
    vectors = np.random.default_rng(seed).normal(size=(items, DIM)).astype(np.float32)
    return CandidateIndex([f"i{n}" for n in range(items)], vectors), vectors


def users(rows: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)


@pytest.mark.parametrize("items", [20, 21, 511, 512, 513, 4_000])
def test_it_finds_what_a_full_sort_finds(items: int) -> None:
    index, vectors = make_index(items)
    asked = users(9)
    rows, scores = index.top(asked, 20)
    exact = asked.astype(np.float64) @ vectors.T.astype(np.float64)
    wanted = np.argsort(-exact, axis=1, kind="stable")[:, :20]
    assert rows.tolist() == wanted.tolist()
    np.testing.assert_allclose(scores, np.take_along_axis(exact, wanted, axis=1), rtol=1e-5, atol=1e-5)
    assert rows.dtype == "int32"
    assert scores.dtype == "float32"


def test_excluded_rows_are_never_answered_and_numbers_outside_are_ignored() -> None:
    index, _ = make_index(600)
    asked = users(4)
    first, _ = index.top(asked, 5)
    exclude = np.concatenate([first, np.full((4, 1), -1, np.int32), np.full((4, 1), 600, np.int32)], axis=1)
    second, _ = index.top(asked, 5, exclude)
    longer, _ = index.top(asked, 10)
    assert second.tolist() == longer[:, 5:].tolist()


def test_ties_go_to_the_lower_row() -> None:
    index = CandidateIndex([str(n) for n in range(1_200)], np.ones((1_200, DIM), np.float32))
    rows, _ = index.top(np.ones((2, DIM), np.float32), 7)
    assert rows.tolist() == [[0, 1, 2, 3, 4, 5, 6]] * 2


def test_a_row_is_answered_to_the_last_bit_alike_in_any_batch() -> None:
    index, _ = make_index(900)
    asked = users(50)
    rows, scores = index.top(asked, 20)
    for size in (1, 2, 7, 16):
        parts = [index.top(asked[at : at + size], 20) for at in range(0, 50, size)]
        assert np.array_equal(np.concatenate([part[0] for part in parts]), rows)
        assert np.array_equal(np.concatenate([part[1] for part in parts]), scores)


def test_fewer_items_than_asked_for_leave_the_rest_empty() -> None:
    index, _ = make_index(3)
    rows, scores = index.top(users(1), 5, np.array([[1]], np.int32))
    assert sorted(rows[0, :2].tolist()) == [0, 2]
    assert rows[0, 2:].tolist() == [-1] * 3
    assert np.isneginf(scores[0, 2:]).all()


def test_a_score_that_is_no_number_is_never_answered() -> None:
    vectors = np.ones((40, DIM), np.float32)
    vectors[3] = np.nan
    rows, scores = CandidateIndex([str(n) for n in range(40)], vectors).top(np.ones((1, DIM), np.float32), 39)
    assert 3 not in rows
    assert np.isfinite(scores).all()


def test_an_empty_batch_gives_an_empty_answer() -> None:
    index, _ = make_index(30)
    rows, scores = index.top(np.empty((0, DIM), np.float32), 4)
    assert rows.shape == scores.shape == (0, 4)


def test_rows_are_looked_up_by_item_id() -> None:
    index, _ = make_index(10)
    assert (index.row("i7"), index.row("nobody"), len(index)) == (7, -1, 10)


def test_ids_and_vectors_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ContractError, match=r"3 item ids with vectors of shape \(4, 32\)"):
        CandidateIndex(["a", "b", "c"], np.zeros((4, DIM), np.float32))
