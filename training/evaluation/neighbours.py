"""Co-occurrence of items in sequences: the baseline of next-item recommenders, and one part of a hybrid.

It is counted, not learnt: for each pair of items, how often the second came soon after the first (and, at a discount, before it),
against how often each comes at all. A sequence's score of an item is the sum over its own items, the newest counting most.
No torch here.

Source: item-to-item co-occurrence as in Linden et al., "Amazon.com Recommendations", IEEE Internet Computing 2003, with the
distance and the recency weights of sequential rules (Ludewig and Jannach, "Evaluation of session-based recommendation
algorithms", UMUAI 2018). The weights below are near the best on the validation rows of Beauty and Sports.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.inputs import SequenceInputs
from stream_app.errors import ContractError
from training.data.dataset import Dataset
from training.evaluation.history_neighbours import fit_history_neighbours
from training.evaluation.item_scores import ItemScores, ranges

_RECURRING: Final = 0.02  # share of targets that are in their own sequence: 0 on Beauty and Sports, 0.2 on diginetica

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class NeighbourOptions:
    """How pairs are counted and summed.

    Attributes:
        window: largest distance of a pair, in positions.
        decay: weight of a pair for each position of its distance beyond the first.
        backwards: weight of a pair in the order opposite to that in which it came.
        source_power: count of a pair is divided by its first item's count to this power.
        target_power: and by its second item's to this: 0 favours popular items, 1 rare ones.
        recency: weight of a sequence's item for each position it stands before the newest.
    """

    window: int = 10
    decay: float = 0.8
    backwards: float = 0.5
    source_power: float = 0.5
    target_power: float = 0.25
    recency: float = 0.7


@dataclass(frozen=True)
class Neighbours(ItemScores):
    """For each of M items its neighbours, as rows of a sparse matrix.

    Attributes:
        popularity: as `ItemScores`.
        starts: (M + 1,) int64 where each item's neighbours begin in the next two.
        items: (P,) int64 the neighbours.
        weights: (P,) float64, above 0.
        recency: as `NeighbourOptions`.
    """

    starts: NDArray[np.int64]
    items: NDArray[np.int64]
    weights: NDArray[np.float64]
    recency: float

    def evidence(self, sequences: Array) -> NDArray[np.float64]:
        """Return (B, M), see `ItemScores`: the sum over each sequence's items of their neighbours' weights, by recency."""
        count = len(self.popularity)
        row, position = np.nonzero(sequences)
        item = sequences[row, position].astype(np.int64) - 1
        weight = self.recency ** (sequences.shape[1] - 1 - position)
        many = self.starts[item + 1] - self.starts[item]
        pair = ranges(self.starts[item], many)
        cell = np.repeat(row * count, many) + self.items[pair]
        pair_weight = self.weights[pair] * np.repeat(weight, many)
        sums: NDArray[np.float64] = np.bincount(cell, pair_weight, minlength=len(sequences) * count).astype(np.float64)
        return sums.reshape(len(sequences), count)


def neighbours_of(dataset: Dataset, label: str) -> ItemScores:
    """Fit neighbours on the training rows: near histories where items recur, else near items.

    The first is better on the validation rows of diginetica, the second on those of Beauty and Sports (docs/log.md). Every prefix
    of a history is a row.

    Raises:
        ContractError: The data set is over other inputs.
    """
    sequences, targets, items = training_sequences(dataset, label)
    recurring = (sequences == targets[:, None] + 1).any(axis=1).mean() if len(targets) else 0.0
    if recurring < _RECURRING:
        return fit_neighbours(sequences, targets, items)
    rows = dataset.known(label, "train")
    return fit_history_neighbours(sequences, targets, dataset.key[rows], dataset.time_ms[rows], items)


def fit_neighbours(sequences: Array, targets: Array, items: int, options: NeighbourOptions | None = None) -> Neighbours:
    """Count pairs of M `items`: each row's target with the items before it.

    `sequences` (N, L) are item numbers + 1, 0 = padding in front; `targets` (N,) the items that came next.
    """
    options = options or NeighbourOptions()
    first = sequences[:, -1][np.count_nonzero(sequences[:, -2:], axis=1) == 1]  # first of its history: the target of no row
    touches = np.bincount(np.concatenate([targets, first - 1]), minlength=items).astype(np.float64)
    keys: Array = np.zeros(0, np.int64)
    counts: Array = np.zeros(0)
    for key, weight in _pairs(sequences, targets.astype(np.int64), items, options):
        keys, where = np.unique(np.concatenate([keys, key]), return_inverse=True)
        counts = np.bincount(where, np.concatenate([counts, np.full(len(key), weight)]))
    source, target = keys // items, keys % items
    expected = np.maximum(touches, 1.0)
    return Neighbours(
        starts=np.searchsorted(source, np.arange(items + 1)).astype(np.int64),
        items=target,
        weights=counts / (expected[source] ** options.source_power * expected[target] ** options.target_power),
        popularity=touches / max(1.0, touches.sum()),
        recency=options.recency,
    )


def training_sequences(dataset: Dataset, label: str) -> tuple[Array, Array, int]:
    """Return sequences and targets of the training rows, and the number of items.

    Raises:
        ContractError: The data set is over other inputs.
    """
    spec, rows = dataset.spec, dataset.known(label, "train")
    if not isinstance(spec, SequenceInputs):
        raise ContractError(
            f"neighbours are counted from sequences of items, and the rows of this data set are {type(spec).__name__}. "
            "Operator action: set evaluation.neighbour_weight = 0 and training.spectral_start = false."
        )
    return dataset.inputs["sequence"][rows], dataset.labels[label][rows], spec.items


def _pairs(sequences: Array, targets: Array, items: int, options: NeighbourOptions) -> Iterator[tuple[Array, float]]:
    """Yield (keys of pairs: first item * M + second item, weight of each)."""
    for distance in range(1, min(options.window, sequences.shape[1]) + 1):
        before = sequences[:, -distance].astype(np.int64) - 1
        present = before >= 0
        source, target, weight = before[present], targets[present], options.decay ** (distance - 1)
        yield source * items + target, weight
        if options.backwards:
            other = source != target  # a pair of an item with itself has no order
            yield (target * items + source)[other], weight * options.backwards
