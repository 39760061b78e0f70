"""Find the best items for a user vector: exact search in a small catalogue, an inverted file (IVF) in a large one.

One compiled loop computes the inner products and selects the best k, so it writes no matrix of scores to memory, starts no BLAS
thread, and gives a row the same answer to the last bit in any batch, which replay relies on. Ties go to the lower row. The loop
releases the GIL.

Up to `EXACT_ITEMS` items, every item is compared. Beyond, items are grouped into cells of similar items
(`stream_app.inference.retrieval.ivf_index`). The nearest cells of a user are searched until enough items were compared: as many
as reach the recall `RECALL` on query vectors that are known when the index is built. Returned scores are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.contract import Manifest
from stream_app.errors import ContractError
from stream_app.features.jit import cached
from stream_app.inference.artifact import load_items, load_samples
from stream_app.inference.retrieval.ivf_index import IvfIndex, cells_of

EXACT_ITEMS: Final = 10_000  # exact search over so many items answers 30,000 users per second and core
RECALL: Final = 0.97  # share of the exact best 100 that the searched cells must hold, over the query vectors of the build
_RECALL_OF: Final = 100
_QUERIES: Final = 256  # item vectors that stand in for users where no recorded user vectors are passed

# Items compared in one pass: their scores (2 kB) and a quarter of their vectors stay in the first-level cache.
_TILE: Final = 512
_STRIP: Final = 16  # cells are padded to whole strips of the widest registers


class _Layout(NamedTuple):
    """Items in the order of the loop: cell by cell, each cell padded to whole strips by places without a score."""

    centres: NDArray[np.float32]  # (D, C)
    columns: NDArray[np.float32]  # (D, P)
    names: NDArray[np.int32]  # (P,) place -> row, -1 for padding
    places: NDArray[np.int64]  # (N,) row -> place
    starts: NDArray[np.int64]  # (C + 1,) where each cell begins


class ItemIndex:
    """Search over item vectors by inner product.

    Args:
        ids: N item ids; row r of every answer means ids[r].
        vectors: (N, D) float32; D must be a multiple of 4.
        queries: (Q, D) float32 typical user vectors; they decide how much of a large catalogue is searched. By default item
            vectors stand in for user vectors, which searches more than necessary.
        exact: Whether all items are compared; by default up to `EXACT_ITEMS` items.
    """

    def __init__(
        self,
        ids: Sequence[str],
        vectors: NDArray[np.float32],
        queries: NDArray[np.float32] | None = None,
        *,
        exact: bool | None = None,
    ) -> None:
        """Store the vectors column by column, in the order of the loop.

        Raises:
            ContractError: The numbers of ids and vectors differ, or the width is not a multiple of 4.
        """
        if vectors.ndim != 2 or len(ids) != vectors.shape[0] or vectors.shape[1] % 4:
            raise ContractError(
                f"{len(ids)} item ids with vectors of shape {vectors.shape}: they must be (ids, a multiple of 4). "
                "Operator action: build the artefact again with the command in its manifest."
            )
        self.ids = list(ids)
        self.exact = len(self.ids) <= EXACT_ITEMS if exact is None else exact
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self._items = _laid_out(vectors, _one_cell(vectors) if self.exact else cells_of(vectors))
        self.searched = len(self.ids)  # places in a user's nearest cells
        if not self.exact:
            self.searched = self._sufficient(vectors[_evenly(len(vectors))] if queries is None else queries)

    def __len__(self) -> int:
        """Return N, the number of items."""
        return len(self.ids)

    def top(
        self, user_vectors: NDArray[np.float32], k: int = 20, exclude: NDArray[np.int32] | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Find the k best items of each user vector.

        Args:
            user_vectors: (B, D) float32.
            k: Number of items, at least 1.
            exclude: (B, n) int32 rows to leave out; numbers outside 0..N-1 are ignored.

        Returns:
            Rows (B, k) int32, best first, and their scores (B, k) float32, descending. Where fewer than k items are
            left the rest is -1 and -inf; an item whose score is NaN is never returned.
        """
        return self._top(user_vectors, k, exclude, self.searched)

    def _top(
        self, user_vectors: NDArray[np.float32], k: int, exclude: NDArray[np.int32] | None, searched: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        batch = user_vectors.shape[0]
        if exclude is None:
            exclude = np.empty((batch, 0), np.int32)
        rows = np.full((batch, k), -1, np.int32)
        scores = np.full((batch, k), -np.inf, np.float32)
        users = np.ascontiguousarray(user_vectors, dtype=np.float32)
        _top(users, self._items, searched, np.ascontiguousarray(exclude, dtype=np.int32), rows, scores)
        return rows, scores

    def _sufficient(self, queries: NDArray[np.float32]) -> int:
        """Return how many items must be searched to reach the recall `RECALL` against exact search."""
        queries = queries[np.isfinite(queries).all(axis=1)]
        if not len(queries):
            return len(self.ids)
        exact, _ = self._top(queries, min(_RECALL_OF, len(self.ids)), None, len(self._items.names))
        sizes = np.diff(self._items.starts)
        near = _nearness(np.ascontiguousarray(queries, dtype=np.float32), self._items.centres)  # (Q, C)
        order = np.argsort(-near, axis=1, kind="stable")
        before = np.empty_like(order)  # (Q, C) places in nearer cells
        np.put_along_axis(before, order, np.cumsum(sizes[order], axis=1) - sizes[order], axis=1)
        cell = np.searchsorted(self._items.starts, self._items.places[exact], side="right") - 1  # (Q, k)
        needed = np.where(exact >= 0, np.take_along_axis(before, cell, axis=1), 0)
        return int(np.quantile(needed, RECALL, method="higher")) + 1


def load_candidates(folder: Path, manifest: Manifest) -> ItemIndex:
    """Read an artefact's items; its recorded user vectors are the queries that tune a large index.

    Raises:
        ContractError: A file is missing, corrupted, or not of the contract's shape.
    """
    ids, vectors = load_items(folder, manifest)
    return ItemIndex(ids, vectors, load_samples(folder, manifest)[1]["user_vector"])


def _one_cell(vectors: NDArray[np.float32]) -> IvfIndex:
    members = np.arange(len(vectors), dtype=np.int32)
    return IvfIndex(np.zeros((1, vectors.shape[1]), np.float32), members, np.array([0, len(vectors)], np.int64))


def _laid_out(vectors: NDArray[np.float32], cells: IvfIndex) -> _Layout:
    sizes = np.diff(cells.starts)
    starts = np.concatenate([[0], np.cumsum(-(-sizes // _STRIP) * _STRIP)]).astype(np.int64)
    stands = np.arange(len(vectors)) + np.repeat(starts[:-1] - cells.starts[:-1], sizes)
    names = np.full(int(starts[-1]), -1, np.int32)
    names[stands] = cells.members
    places = np.empty(len(vectors), np.int64)
    places[cells.members] = stands
    columns = np.full((vectors.shape[1], len(names)), np.nan, np.float32)
    columns[:, stands] = vectors[cells.members].T
    return _Layout(np.ascontiguousarray(cells.centres.T), columns, names, places, starts)


def _evenly(items: int) -> NDArray[np.int64]:
    return np.linspace(0, items - 1, min(items, _QUERIES)).astype(np.int64)


@cached(fastmath={"contract"})
def _top(
    users: NDArray[Any], items: _Layout, searched: int, exclude: NDArray[Any], rows: NDArray[Any], scores: NDArray[Any]
) -> None:
    """Fill rows and scores (B, k), which come in as -1 and -inf; users (B, D), exclude (B, n).

    Cells are searched nearest first, until `searched` places were compared and k items exist.
    """
    centres, columns, names, places, starts = items
    cells, k = len(starts) - 1, rows.shape[1]
    part = np.empty(_TILE, np.float32)
    near = np.zeros(cells, np.float32)
    for b in range(users.shape[0]):
        if cells > 1:
            _measure(users[b], centres, near)
        done = 0
        for cell in np.argsort(-near, kind="mergesort"):  # the first of equally near ones
            if done >= searched and scores[b, k - 1] > -np.inf:
                break
            for start in range(starts[cell], starts[cell + 1], _TILE):
                size = min(_TILE, starts[cell + 1] - start)
                _products(users[b], columns, start, size, part)
                for e in range(exclude.shape[1]):
                    row = exclude[b, e]
                    if 0 <= row < len(places) and 0 <= places[row] - start < size:
                        part[places[row] - start] = -np.inf
                _keep(part, names, start, size, rows[b], scores[b])
            done += starts[cell + 1] - starts[cell]


@cached(fastmath={"contract"})
def _nearness(users: NDArray[Any], centres: NDArray[Any]) -> NDArray[Any]:
    """(B, D) and (D, C) -> (B, C) float32, as `_top` measures it: not by BLAS, so that any machine looks at as many items."""
    near = np.zeros((len(users), centres.shape[1]), np.float32)
    for b in range(len(users)):
        _measure(users[b], centres, near[b])
    return near


@cached(fastmath={"contract"}, inline="always")
def _measure(user: NDArray[Any], centres: NDArray[Any], near: NDArray[Any]) -> None:
    """Write the inner products of user (D,) and centres (D, C) to near (C,)."""
    for c in range(len(near)):
        near[c] = np.float32(0.0)
    for d in range(len(user)):
        for c in range(len(near)):
            near[c] += user[d] * centres[d, c]


@cached(fastmath={"contract"}, inline="always")
def _products(user: NDArray[Any], columns: NDArray[Any], start: int, size: int, part: NDArray[Any]) -> None:
    """Write the inner products of user (D,) and `size` columns (D, P) from `start` on to part (size,)."""
    for j in range(size):
        part[j] = np.float32(0.0)
    for d in range(0, columns.shape[0], 4):  # four at a time: one load and store of `part` for four products
        u0, u1, u2, u3 = user[d], user[d + 1], user[d + 2], user[d + 3]
        c0, c1 = columns[d, start : start + size], columns[d + 1, start : start + size]
        c2, c3 = columns[d + 2, start : start + size], columns[d + 3, start : start + size]
        for j in range(size):
            part[j] += u0 * c0[j] + u1 * c1[j] + u2 * c2[j] + u3 * c3[j]


@cached(inline="always")
def _keep(part: NDArray[Any], names: NDArray[Any], start: int, size: int, rows: NDArray[Any], scores: NDArray[Any]) -> None:
    """Put what is good enough of part (size,) among the best k: rows and scores (k,), descending, the lower row first."""
    last = len(scores) - 1
    worst = scores[last]
    for j in range(size):
        score = part[j]
        # Rare after the first tile: about k ln(N / k) times a row. NaN is never good enough.
        if score >= worst and score > -np.inf and (score > worst or names[start + j] < rows[last]):
            at, name = last, names[start + j]
            while at > 0 and (scores[at - 1] < score or (scores[at - 1] == score and rows[at - 1] > name)):
                scores[at] = scores[at - 1]
                rows[at] = rows[at - 1]
                at -= 1
            scores[at] = score
            rows[at] = name
            worst = scores[last]
