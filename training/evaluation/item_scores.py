"""Scores of all items for a sequence of items without a network, and their combination with a network's scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_LEAST: Final = 1e-9  # times its popularity: orders items without evidence
_LEAST_SHARE: Final = 1e-3  # of the row's highest score: where the logarithm stops falling

Array = NDArray[Any]


@dataclass(frozen=True)
class ItemScores(ABC):
    """Scores of M items.

    Attributes:
        popularity: (M,) float64 share of each item among all touches.
    """

    popularity: NDArray[np.float64]

    @abstractmethod
    def evidence(self, sequences: Array) -> NDArray[np.float64]:
        """Return (B, M), 0 or more, 0 for an item without evidence; `sequences` as in `scores`."""

    def scores(self, sequences: Array) -> NDArray[np.float64]:
        """Return (B, M) for `sequences` (B, L) of item numbers + 1, 0 = padding in front.

        Items without evidence have scores near 0, in order of popularity.
        """
        return self.evidence(sequences) + _LEAST * self.popularity

    def log_scores(self, sequences: Array) -> NDArray[np.float32]:
        """Return (B, M): the logarithm of each score's share of the row's highest, which a hybrid adds to a network's scores.

        A softmax over the sum is then the network's probability times the score to a power: a product of experts.

        `sequences` as in `scores`.
        """
        scores = self.scores(sequences)
        highest = np.maximum(scores.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        logs: NDArray[np.float32] = np.log(scores / highest + _LEAST_SHARE).astype(np.float32)
        return logs


def ranges(starts: Array, counts: Array) -> Array:
    """Return (sum of `counts`,) int64: start, start + 1, ... of each start (N,), `counts` (N,) of them, one after the other."""
    places: Array = np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)
    return places
