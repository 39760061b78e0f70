"""The best items for a user vector, exactly: every item is compared, none is missed.

One compiled loop makes the inner products and keeps the best k of them, so no matrix of scores is written to memory, no
BLAS thread is woken, and a row's answer is the same to the last bit in any batch, which replay relies on. Ties go to
the lower row. It releases the GIL.

For some thousand items this is faster than any index; beyond about 100,000 an approximate one pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stream_app.errors import ContractError

__all__ = ["CandidateIndex"]

# Items compared in one go: their scores (2 kB) stay in the first-level cache, and so does a quarter of their vectors.
_TILE: Final = 512


class CandidateIndex:
    """Items by inner product.

    Args:
        ids: N item ids; row r of every answer means ids[r].
        vectors: (N, D) float32; D must be a multiple of 4.
    """

    def __init__(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep the vectors column by column, as the loop reads them.

        Raises:
            ContractError: Ids and vectors are not as many, or the width is no multiple of 4.
        """
        if vectors.ndim != 2 or len(ids) != vectors.shape[0] or vectors.shape[1] % 4:
            raise ContractError(
                f"{len(ids)} item ids with vectors of shape {vectors.shape}: they must be (ids, a multiple of 4). "
                "Operator action: build the artefact again with the command in its manifest."
            )
        self.ids = list(ids)
        self._columns = np.ascontiguousarray(vectors.T, dtype=np.float32)  # (D, N)
        self._rows = {item: row for row, item in enumerate(self.ids)}

    def __len__(self) -> int:
        """Return N, the number of items."""
        return len(self.ids)

    def row(self, item: str) -> int:
        """Return the row of an item id, -1 for one that is not here."""
        return self._rows.get(item, -1)

    def top(
        self, user_vectors: NDArray[np.float32], k: int = 20, exclude: NDArray[np.int32] | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Find the k best items of each user vector.

        Args:
            user_vectors: (B, D) float32.
            k: how many, at least 1.
            exclude: (B, n) int32 rows that must not be answered; any number outside 0..N-1 is ignored.

        Returns:
            Rows (B, k) int32, best first, and their scores (B, k) float32, descending. Where fewer than k items are
            left the rest is -1 and -inf; an item whose score is NaN is never answered.
        """
        batch = user_vectors.shape[0]
        if exclude is None:
            exclude = np.empty((batch, 0), np.int32)
        rows = np.full((batch, k), -1, np.int32)
        scores = np.full((batch, k), -np.inf, np.float32)
        users = np.ascontiguousarray(user_vectors, dtype=np.float32)
        _top(users, self._columns, np.ascontiguousarray(exclude, dtype=np.int32), rows, scores)
        return rows, scores


@njit(cache=True, nogil=True, fastmath={"contract"})
def _top(users: NDArray[Any], columns: NDArray[Any], exclude: NDArray[Any], rows: NDArray[Any], scores: NDArray[Any]) -> None:
    """Fill rows and scores (B, k), which come in as -1 and -inf; users (B, D), columns (D, N), exclude (B, n)."""
    width, items = columns.shape
    k = rows.shape[1]
    part = np.empty(_TILE, np.float32)
    for b in range(users.shape[0]):
        for start in range(0, items, _TILE):
            size = min(_TILE, items - start)
            for j in range(size):
                part[j] = np.float32(0.0)
            for d in range(0, width, 4):  # four at a time: one load and store of `part` for four products
                u0, u1, u2, u3 = users[b, d], users[b, d + 1], users[b, d + 2], users[b, d + 3]
                c0, c1 = columns[d, start : start + size], columns[d + 1, start : start + size]
                c2, c3 = columns[d + 2, start : start + size], columns[d + 3, start : start + size]
                for j in range(size):
                    part[j] += u0 * c0[j] + u1 * c1[j] + u2 * c2[j] + u3 * c3[j]
            for e in range(exclude.shape[1]):
                j = exclude[b, e] - start
                if 0 <= j < size:
                    part[j] = -np.inf
            worst = scores[b, k - 1]
            for j in range(size):
                if part[j] > worst:  # rare after the first tile: about k ln(N / k) times a row
                    at = k - 1
                    while at > 0 and scores[b, at - 1] < part[j]:
                        scores[b, at] = scores[b, at - 1]
                        rows[b, at] = rows[b, at - 1]
                        at -= 1
                    scores[b, at] = part[j]
                    rows[b, at] = start + j
                    worst = scores[b, k - 1]
