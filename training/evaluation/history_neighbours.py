"""Histories like this one, and what stood in them near the item that both have: neighbours where people come back to items.

Where an item may come again (sessions of a shop), what somebody does next is often what others did who looked at the same few
items, or one of those items itself; counting pairs of items (`training.evaluation.neighbours`) sees neither. No torch here.

Source: STAN, Garg et al., "Sequence and Time Aware Neighborhood for Session-based Recommendations", SIGIR 2019, with items
weighed by how rare they are (as VSTAN of Ludewig et al., "Empirical analysis of session-based recommendation algorithms", UMUAI
2021), and the shared items themselves as candidates. The weights below are chosen on validation rows of diginetica.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation.item_scores import ItemScores, ranges

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class HistoryOptions:
    """What makes a history a near one, and an item of it a candidate.

    Attributes:
        recency: weight of a sequence's item for each position it stands before the newest.
        rarity: that weight is divided by the item's number of touches to this power.
        length_power: likeness is divided by the history's length to this power.
        age: likeness of the oldest history is exp(-age) of that of the newest.
        newest: histories with an item that are looked at, the newest.
        nearest: histories that are counted in the end.
        distance: weight of an item for each position beyond the next that it stands from the shared one.
        before: weight of an item that stands before the shared one.
        again: weight of the shared one.
    """

    recency: float = 0.7
    rarity: float = 0.5
    length_power: float = 0.5
    age: float = 1.5
    newest: int = 3_000
    nearest: int = 500
    distance: float = 0.5
    before: float = 0.8
    again: float = 0.8


@dataclass(frozen=True)
class HistoryNeighbours(ItemScores):
    """H histories of K touches of M items, from the oldest to the newest, and where each item stands in them.

    Attributes:
        popularity: as `ItemScores`.
        starts: (H + 1,) int64 where each history begins in `items`.
        items: (K,) int64.
        occurrences: (K,) int64 places in `items`, item by item, each item's in order of the histories.
        item_starts: (M + 1,) int64 where each item begins in `occurrences`.
        options: the weights.
    """

    starts: NDArray[np.int64]
    items: NDArray[np.int64]
    occurrences: NDArray[np.int64]
    item_starts: NDArray[np.int64]
    options: HistoryOptions

    @property
    def touches(self) -> NDArray[np.int64]:
        """How often each item comes, (M,)."""
        return np.diff(self.item_starts)

    def evidence(self, sequences: Array) -> NDArray[np.float64]:
        """Return (B, M), see `ItemScores`: the sum over near histories of their likeness, by distance to the shared item."""
        options, count = self.options, len(self.item_starts) - 1
        row, history, shared, likeness = self._nearest(sequences)
        many = np.diff(self.starts)[history]
        place = ranges(self.starts[history], many)
        away = place - np.repeat(shared, many)
        weight = options.distance ** np.maximum(np.abs(away) - 1, 0) * np.where(away < 0, options.before, 1.0)
        weight = np.where(away == 0, options.again, weight) * np.repeat(likeness, many)
        cell = np.repeat(row * count, many) + self.items[place]
        sums: NDArray[np.float64] = np.bincount(cell, weight, minlength=len(sequences) * count).astype(np.float64)
        return sums.reshape(len(sequences), count)

    def _nearest(self, sequences: Array) -> tuple[Array, Array, Array, Array]:
        """Return (row, history, place of the shared item in `items`, likeness) of each row's nearest histories.

        Of several shared items the newest of the sequence counts as the shared one, and its last place in the history.
        """
        options, total = self.options, len(self.starts) - 1
        row, position = np.nonzero(sequences)
        item, back = sequences[row, position].astype(np.int64) - 1, sequences.shape[1] - 1 - position
        many = np.minimum(self.touches[item], options.newest)
        place = self.occurrences[ranges(self.item_starts[item + 1] - many, many)]
        key = np.repeat(row, many) * total + np.searchsorted(self.starts, place, side="right") - 1
        weight = np.repeat(options.recency**back / np.maximum(self.touches[item], 1) ** options.rarity, many)
        order = np.lexsort((-place, np.repeat(back, many), key))
        key, place, weight = key[order], place[order], weight[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        likeness = np.add.reduceat(weight, first) if len(first) else np.zeros(0)
        row, history = np.divmod(key[first], total)
        likeness = likeness / np.diff(self.starts)[history] ** options.length_power
        likeness = likeness * np.exp(-options.age * (total - 1 - history) / max(1, total - 1))
        order = np.lexsort((-likeness, row))
        row, history, shared, likeness = row[order], history[order], place[first][order], likeness[order]
        near = np.arange(len(row)) - np.searchsorted(row, row) < options.nearest
        return row[near], history[near], shared[near], likeness[near]


def fit_history_neighbours(
    sequences: Array, targets: Array, owner: Array, time_ms: Array, items: int, options: HistoryOptions | None = None
) -> HistoryNeighbours:
    """Rebuild histories from their prefixes.

    Args:
        sequences: (N, L) item numbers + 1, 0 = padding in front; the rows of each history in order of time.
        targets: (N,) the item that came next.
        owner: (N,) whose history it is.
        time_ms: (N,) of the targets; all 0 where `owner` numbers histories in order of time.
        items: M, how many there are.
        options: the weights.
    """
    order = np.argsort(owner, kind="stable")
    opens = np.flatnonzero(np.diff(owner[order], prepend=owner[order][:1] - 1))  # each history's first row
    ends = time_ms[order][np.append(opens[1:], len(order)) - 1] if len(opens) else np.zeros(0)
    age = np.empty(len(opens), np.int64)
    age[np.argsort(ends, kind="stable")] = np.arange(len(opens))
    # A history is the sequence of its first row, and then every row's target.
    row, position = np.nonzero(sequences[order[opens]])
    before = sequences[order[opens]][row, position].astype(np.int64) - 1
    of_target = np.repeat(age, np.diff(np.append(opens, len(order))))
    of_all, all_items = np.concatenate([age[row], of_target]), np.concatenate([before, targets[order].astype(np.int64)])
    by_history = np.argsort(of_all, kind="stable")
    all_items = all_items[by_history]
    occurrences = np.argsort(all_items, kind="stable")
    touches = np.bincount(all_items, minlength=items).astype(np.float64)
    return HistoryNeighbours(
        popularity=touches / max(1.0, touches.sum()),
        starts=np.searchsorted(of_all[by_history], np.arange(len(opens) + 1)).astype(np.int64),
        items=all_items,
        occurrences=occurrences,
        item_starts=np.searchsorted(all_items[occurrences], np.arange(items + 1)).astype(np.int64),
        options=options or HistoryOptions(),
    )
