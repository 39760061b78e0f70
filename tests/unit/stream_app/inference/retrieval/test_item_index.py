"""The candidate index: exact, stable, the same in any batch."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_app.errors import ContractError
from stream_app.inference.retrieval.item_index import EXACT_ITEMS, ItemIndex

DIM = 32
Alike = tuple[NDArray[np.float32], NDArray[np.float32]]


def make_index(items: int, seed: int = 0) -> tuple[ItemIndex, NDArray[np.float32]]:
    vectors = np.random.default_rng(seed).normal(size=(items, DIM)).astype(np.float32)
    return ItemIndex([f"i{n}" for n in range(items)], vectors), vectors


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
    index = ItemIndex([str(n) for n in range(1_200)], np.ones((1_200, DIM), np.float32))
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
    rows, scores = ItemIndex([str(n) for n in range(40)], vectors).top(np.ones((1, DIM), np.float32), 39)
    assert 3 not in rows
    assert np.isfinite(scores).all()


def test_an_empty_batch_gives_an_empty_answer() -> None:
    index, _ = make_index(30)
    rows, scores = index.top(np.empty((0, DIM), np.float32), 4)
    assert rows.shape == scores.shape == (0, 4)


def test_rows_are_the_places_of_item_ids() -> None:
    index, _ = make_index(10)
    assert (index.ids.index("i7"), "nobody" in index.ids, len(index)) == (7, False, 10)


def test_ids_and_vectors_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ContractError, match=r"3 item ids with vectors of shape \(4, 32\)"):
        ItemIndex(["a", "b", "c"], np.zeros((4, DIM), np.float32))


LARGE = 10_500  # more than are compared one by one


@pytest.fixture(scope="module")
def alike() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Items (LARGE, DIM) of 60 kinds, and users (300, DIM) who like some of a kind or two."""
    draw = np.random.default_rng(5)
    kinds = draw.normal(size=(60, DIM))
    items = kinds[draw.integers(60, size=LARGE)] + 0.4 * draw.normal(size=(LARGE, DIM))
    likes = kinds[draw.integers(60, size=300)] + 0.5 * kinds[draw.integers(60, size=300)]
    return items.astype(np.float32), (likes + 0.3 * draw.normal(size=likes.shape)).astype(np.float32)


def names(items: int) -> list[str]:
    return [f"i{n}" for n in range(items)]


def test_few_items_are_all_compared_and_many_are_looked_for_in_the_nearest_cells(alike: Alike) -> None:
    assert ItemIndex(names(EXACT_ITEMS), alike[0][:EXACT_ITEMS]).exact
    index = ItemIndex(names(LARGE), alike[0], alike[1][200:])
    assert not index.exact
    assert index.searched < LARGE / 2


def test_nearest_cells_hold_what_comparing_all_items_finds_with_the_same_scores_to_the_last_bit(alike: Alike) -> None:
    items, asked = alike[0], alike[1][:200]
    fast, every = ItemIndex(names(LARGE), items, alike[1][200:]), ItemIndex(names(LARGE), items, exact=True)
    rows, scores = fast.top(asked, 100)
    wanted, exact = every.top(asked, 100)
    found = [np.isin(row, best).mean() for row, best in zip(rows, wanted, strict=True)]
    assert np.mean(found) >= 0.95
    assert (np.diff(scores, axis=1) <= 0).all()
    by_row = [dict(zip(row.tolist(), value.tolist(), strict=True)) for row, value in zip(wanted, exact, strict=True)]
    common = [
        (by_row[b][row], value) for b in range(200) for row, value in zip(rows[b], scores[b], strict=True) if row in by_row[b]
    ]
    assert all(left == right for left, right in common)


def test_questions_that_no_cell_answers_well_have_more_items_looked_at() -> None:
    """Items without kinds: their nearest cells hold little more than others, so that nearly all have to be looked at."""
    items = np.random.default_rng(7).normal(size=(LARGE, DIM)).astype(np.float32)
    index, every = ItemIndex(names(LARGE), items, users(64, 8)), ItemIndex(names(LARGE), items, exact=True)
    rows, wanted = index.top(users(64), 100)[0], every.top(users(64), 100)[0]
    assert np.mean([np.isin(row, best).mean() for row, best in zip(rows, wanted, strict=True)]) >= 0.95


def test_what_is_found_in_cells_is_alike_in_any_batch_and_from_any_index_of_the_same_items(alike: Alike) -> None:
    index, again = (ItemIndex(names(LARGE), alike[0]) for _ in range(2))
    asked = alike[1][:50]
    rows, scores = index.top(asked, 20)
    for size in (1, 7, 16):
        parts = [again.top(asked[at : at + size], 20) for at in range(0, 50, size)]
        assert np.array_equal(np.concatenate([part[0] for part in parts]), rows)
        assert np.array_equal(np.concatenate([part[1] for part in parts]), scores)


def test_excluded_rows_are_left_out_of_cells_too(alike: Alike) -> None:
    index = ItemIndex(names(LARGE), alike[0])
    first, _ = index.top(alike[1][:5], 10)
    second, _ = index.top(alike[1][:5], 10, np.concatenate([first, np.full((5, 1), LARGE, np.int32)], axis=1))
    longer, _ = index.top(alike[1][:5], 20)
    assert second.tolist() == longer[:, 10:].tolist()


def test_cells_are_looked_at_until_as_many_are_found_as_are_asked_for(alike: Alike) -> None:
    index = ItemIndex(names(LARGE), alike[0])
    rows, _ = index.top(alike[1][:2], LARGE)
    assert [sorted(row) for row in rows.tolist()] == [list(range(LARGE))] * 2


def test_equal_scores_in_different_cells_go_to_the_lower_row() -> None:
    """Coordinates that the user does not care for put the items into different cells."""
    items = np.random.default_rng(9).normal(size=(LARGE, DIM)).astype(np.float32)
    items[:, 0] = 1.0
    user = np.zeros((1, DIM), np.float32)
    user[0, 0] = 2.0
    assert ItemIndex(names(LARGE), items).top(user, LARGE)[0].tolist() == [list(range(LARGE))]


def test_items_that_are_no_numbers_are_never_answered_and_spoil_no_cell(alike: Alike) -> None:
    broken = alike[0].copy()
    broken[::100] = np.nan
    rows, scores = ItemIndex(names(LARGE), broken).top(alike[1][:50], 100)
    assert not (rows % 100 == 0).any()
    assert np.isfinite(scores).all()
