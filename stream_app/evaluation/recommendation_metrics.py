"""Metrics of recommended items, event by event along the log: the rank of the item that the user took next.

The baseline of all lists is one list for everybody: the busiest items of the log so far.

Popularity and age of an item are those of the log up to the event's batch, which spans a day at most. A list is dropped when the
session of its event ends, so memory holds the open sessions alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NOWHERE: Final = np.iinfo(np.int32).max  # rank of an item outside of the list
_NEVER_MS: Final = 1 << 62


class ItemLog:
    """All items of the log so far: numbered in order of appearance, with first time and number of events."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self._first_ms = np.full(1024, _NEVER_MS, np.int64)
        self._events = np.zeros(1024, np.int64)
        self._total = 0

    def add(self, item: str, time_ms: int) -> int:
        """Count an event of an item; return its number."""
        number = self.numbers.setdefault(item, len(self.numbers))
        self._grow()
        self._first_ms[number] = min(self._first_ms[number], time_ms)
        self._events[number] += 1
        self._total += 1
        return number

    def numbered(self, items: Sequence[str]) -> NDArray[np.int32]:
        """Return the numbers of items (M,); an item that is new to the log gets a number without an event."""
        numbers = [self.numbers.setdefault(item, len(self.numbers)) for item in items]
        self._grow()
        return np.array(numbers, np.int32)

    def _grow(self) -> None:
        if len(self.numbers) > len(self._first_ms):
            added = max(len(self._first_ms), len(self.numbers) - len(self._first_ms))
            self._first_ms = np.append(self._first_ms, np.full(added, _NEVER_MS))
            self._events = np.append(self._events, np.zeros(added, np.int64))

    def busiest(self, count: int) -> NDArray[np.int32]:
        """Return the numbers (up to count,) of the items with the most events so far, the busiest first."""
        events = self._events[: len(self.numbers)]
        most = np.argsort(-events, kind="stable")[:count]
        return most[events[most] > 0].astype(np.int32)

    def surprise(self, numbers: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the self-information of items (...) in bits: -log2 of their share of the events so far, plus one each.

        Source: Vargas and Castells, "Rank and relevance in novelty and diversity metrics", RecSys 2011 (self-information).
        """
        known = (self._events[numbers] + 1.0) / (self._total + len(self.numbers))
        bits: NDArray[np.float64] = -np.log2(known)
        return bits

    def is_new(self, numbers: NDArray[np.int32], time_ms: NDArray[np.int64], within_ms: int) -> NDArray[np.bool_]:
        """Return whether items (B, k) first appeared less than `within_ms` before the events (B,)."""
        first = self._first_ms[numbers]
        new: NDArray[np.bool_] = (first < _NEVER_MS) & (first > time_ms[:, None] - within_ms)
        return new


@dataclass(frozen=True, eq=False)
class RecommendationFigures:
    """Of K rows: rank (K,) int32 of the next item; of their lists: mean novelty (K,) in bits, share of new items (K,)."""

    place: NDArray[np.int32]
    novelty: NDArray[np.float64]
    new: NDArray[np.float64]


class RecommendationMetrics:
    """Metrics of the lists of one contender, which can recommend `items`; an item is new for `new_item_ms`."""

    def __init__(self, log: ItemLog, items: Sequence[str], new_item_ms: int) -> None:
        self._log, self._new_item_ms = log, new_item_ms
        self._numbers = log.numbered(items)
        self._waiting: dict[int, NDArray[np.int32]] = {}
        self._novelty: dict[int, float] = {}
        self._new: dict[int, float] = {}
        self._place: dict[int, int] = {}
        self._seen = np.zeros(len(items), np.bool_)

    def add(self, rows: Sequence[int], items: NDArray[np.int32], time_ms: NDArray[np.int64]) -> None:
        """Add the lists of B rows: rows of the contender's items (B, k), -1 = none; times (B,)."""
        present = items >= 0
        self._seen[items[present]] = True
        self.add_numbered(rows, np.where(present, self._numbers[np.maximum(items, 0)], -1), time_ms)

    def add_numbered(self, rows: Sequence[int], numbers: NDArray[np.int32], time_ms: NDArray[np.int64]) -> None:
        """Add the lists of B rows as numbers of the log's items (B, k), -1 = none; times (B,)."""
        present = numbers >= 0
        counts = np.maximum(present.sum(axis=1), 1)
        novelty = np.where(present, self._log.surprise(numbers), 0.0).sum(axis=1) / counts
        new = (self._log.is_new(numbers, time_ms, self._new_item_ms) & present).sum(axis=1) / counts
        for place, row in enumerate(rows):
            self._waiting[row] = numbers[place]
            self._novelty[row], self._new[row] = float(novelty[place]), float(new[place])

    def resolve(self, row: int, next_item: int) -> None:
        """Set the item that was taken after a row: its number, or -1 for none."""
        recommended = self._waiting.pop(row, None)
        if recommended is None or next_item < 0:
            return
        hit = np.flatnonzero(recommended == next_item)
        self._place[row] = int(hit[0]) if len(hit) else NOWHERE

    def figures(self, rows: NDArray[np.int64]) -> RecommendationFigures:
        """Return the figures of rows (K,) that another item followed."""
        numbers = rows.tolist()
        return RecommendationFigures(
            np.array([self._place[row] for row in numbers], np.int32),
            np.array([self._novelty[row] for row in numbers]),
            np.array([self._new[row] for row in numbers]),
        )

    def evaluated_rows(self) -> NDArray[np.int64]:
        """Return the rows that another item followed, ascending."""
        return np.array(sorted(self._place), np.int64)

    @property
    def coverage(self) -> float:
        """Return the share of the contender's own items that it recommended at least once; NaN without any."""
        return float(self._seen.mean()) if len(self._seen) else float("nan")
