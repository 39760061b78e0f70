"""Group items into cells of similar items by k-means, for an inverted file (IVF).

The same vectors give the same cells on any machine. `stream_app.inference.retrieval.item_index` uses it for large catalogues.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.jit import cached

_PER_ROOT: Final = 2  # cells for each square root of N: at an equal number of searched items small cells miss less
_ROUNDS: Final = 10  # of k-means; further rounds move hardly an item
_LEARNT_FROM: Final = 64  # training vectors per cell, at most
_SEED: Final = 0


@dataclass(frozen=True)
class IvfIndex:
    """N items in C cells.

    Attributes:
        centres: (C, D) float32, the mean of each cell's vectors.
        members: (N,) int32 items, cell by cell, ascending within a cell.
        starts: (C + 1,) int64, where each cell begins in `members`.
    """

    centres: NDArray[np.float32]
    members: NDArray[np.int32]
    starts: NDArray[np.int64]


def cells_of(vectors: NDArray[np.float32]) -> IvfIndex:
    """Group N items into about 2 * sqrt(N) cells.

    Args:
        vectors: (N, D) float32, N >= 1. A vector that is not finite counts as zeros.
    """
    usable = np.ascontiguousarray(np.where(np.isfinite(vectors).all(axis=1, keepdims=True), vectors, 0.0), dtype=np.float32)
    count = max(1, int(_PER_ROOT * len(vectors) ** 0.5))
    random = np.random.default_rng(_SEED)
    learnt = usable[np.sort(random.permutation(len(usable))[: _LEARNT_FROM * count])]
    centres = learnt[np.sort(random.permutation(len(learnt))[:count])].copy()
    for _ in range(_ROUNDS):
        _move(centres, learnt, _nearest(learnt, centres))
    cell = _nearest(usable, centres)
    members = np.argsort(cell, kind="stable").astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=count))]).astype(np.int64)
    return IvfIndex(centres, members, starts)


def _move(centres: NDArray[np.float32], vectors: NDArray[np.float32], cell: NDArray[np.int32]) -> None:
    """Move each centre (C, D) to the mean of the vectors (N, D) of its cell (N,); centres of empty cells stay."""
    size = np.bincount(cell, minlength=len(centres))
    total = np.stack([np.bincount(cell, weights=column, minlength=len(centres)) for column in vectors.T], axis=1)  # (C, D)
    used = size > 0
    centres[used] = (total[used] / size[used, None]).astype(np.float32)


@cached(fastmath={"contract"})
def _nearest(vectors: NDArray[Any], centres: NDArray[Any]) -> NDArray[Any]:
    """(N, D) and (C, D) float32 -> (N,) int32, the nearest centre of each; the first among equals.

    Compiled, not a product by BLAS: the BLAS library and its threads must not change the result.
    """
    count, width = centres.shape
    columns = np.ascontiguousarray(centres.T)
    half = np.zeros(count, np.float32)  # of the squared lengths
    for d in range(width):
        for c in range(count):
            half[c] += np.float32(0.5) * columns[d, c] * columns[d, c]
    nearest = np.empty(len(vectors), np.int32)
    near = np.empty(count, np.float32)
    for n in range(len(vectors)):
        for c in range(count):
            near[c] = -half[c]
        for d in range(width):
            x = vectors[n, d]
            for c in range(count):
                near[c] += x * columns[d, c]
        best = 0
        for c in range(count):
            if near[c] > near[best]:
                best = c
        nearest[n] = best
    return nearest
