"""Items that a candidate shows, judged event by event as the log goes on: where was what the user took next?

The floor of all lists is the same list for everybody: the busiest items of the log so far.

Popularity and age of an item are those of the log up to the event's batch, which spans a day at most. A list is kept only until
its event's session is over, so memory holds the open sessions and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["ItemLog", "RecommendationMetrics"]

NOWHERE: Final = np.iinfo(np.int32).max  # place of an item that is not shown
_NEVER_MS: Final = 1 << 62


class ItemLog:
    """All items that the log has brought up: numbered as they come, with first time and number of events."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self._first_ms = np.full(1024, _NEVER_MS, np.int64)
        self._events = np.zeros(1024, np.int64)
        self._total = 0

    def add(self, item: str, time_ms: int) -> int:
        """Count an event of an item; return its number."""
        number = self.numbers.setdefault(item, len(self.numbers))
        if number >= len(self._first_ms):
            self._first_ms = np.concatenate([self._first_ms, np.full(len(self._first_ms), _NEVER_MS, np.int64)])
            self._events = np.concatenate([self._events, np.zeros(len(self._events), np.int64)])
        self._first_ms[number] = min(self._first_ms[number], time_ms)
        self._events[number] += 1
        self._total += 1
        return number

    def numbered(self, items: Sequence[str]) -> NDArray[np.int32]:
        """Return the numbers of items (M,); those that have not come up yet get one too, and have no event."""
        found = [self.numbers.setdefault(item, len(self.numbers)) for item in items]
        lacking = len(self.numbers) - len(self._first_ms)
        if lacking > 0:
            self._first_ms = np.concatenate([self._first_ms, np.full(lacking, _NEVER_MS, np.int64)])
            self._events = np.concatenate([self._events, np.zeros(lacking, np.int64)])
        return np.array(found, np.int32)

    def busiest(self, count: int) -> NDArray[np.int32]:
        """Return the numbers (up to count,) of the items with the most events so far, the busiest first."""
        events = self._events[: len(self.numbers)]
        most = np.argsort(-events, kind="stable")[:count]
        return most[events[most] > 0].astype(np.int32)

    def surprise(self, numbers: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return how little known items (...) are, in bits: -log2 of the share of events so far that were theirs, plus one each.

        Source: Vargas and Castells, "Rank and relevance in novelty and diversity metrics", RecSys 2011 (self-information).
        """
        known = (self._events[numbers] + 1.0) / (self._total + len(self.numbers))
        bits: NDArray[np.float64] = -np.log2(known)
        return bits

    def is_new(self, numbers: NDArray[np.int32], time_ms: NDArray[np.int64], within_ms: int) -> NDArray[np.bool_]:
        """Return whether items (B, k) came up for the first time less than `within_ms` before the events (B,)."""
        first = self._first_ms[numbers]
        new: NDArray[np.bool_] = (first < _NEVER_MS) & (first > time_ms[:, None] - within_ms)
        return new


@dataclass(frozen=True, eq=False)
class RecommendationFigures:
    """Of K judged rows: place (K,) int32 of what was taken next; of lists: mean novelty (K,) in bits, share of new (K,)."""

    place: NDArray[np.int32]
    novelty: NDArray[np.float64]
    new: NDArray[np.float64]


class RecommendationMetrics:
    """One candidate's lists.

    Args:
        log: The log's items.
        items: What the candidate can show.
        new_item_ms: How long an item is new.
    """

    def __init__(self, log: ItemLog, items: Sequence[str], new_item_ms: int) -> None:
        self._log, self._new_item_ms = log, new_item_ms
        self._numbers = log.numbered(items)
        self._waiting: dict[int, NDArray[np.int32]] = {}
        self._novelty: dict[int, float] = {}
        self._new: dict[int, float] = {}
        self._place: dict[int, int] = {}
        self._seen = np.zeros(len(items), np.bool_)

    def add(self, rows: Sequence[int], items: NDArray[np.int32], time_ms: NDArray[np.int64]) -> None:
        """Take the lists of B rows: rows of the candidate's items (B, k), -1 = none; times (B,)."""
        there = items >= 0
        self._seen[items[there]] = True
        self.add_numbered(rows, np.where(there, self._numbers[np.maximum(items, 0)], -1), time_ms)

    def add_numbered(self, rows: Sequence[int], numbers: NDArray[np.int32], time_ms: NDArray[np.int64]) -> None:
        """Take the lists of B rows as numbers of the log's items (B, k), -1 = none; times (B,)."""
        there = numbers >= 0
        counts = np.maximum(there.sum(axis=1), 1)
        novelty = np.where(there, self._log.surprise(numbers), 0.0).sum(axis=1) / counts
        new = (self._log.is_new(numbers, time_ms, self._new_item_ms) & there).sum(axis=1) / counts
        for place, row in enumerate(rows):
            self._waiting[row] = numbers[place]
            self._novelty[row], self._new[row] = float(novelty[place]), float(new[place])

    def resolve(self, row: int, wanted: int) -> None:
        """Say what was taken after a row: an item's number, or -1 for nothing."""
        shown = self._waiting.pop(row, None)
        if shown is None or wanted < 0:
            return
        hit = np.flatnonzero(shown == wanted)
        self._place[row] = int(hit[0]) if len(hit) else NOWHERE

    def figures(self, rows: NDArray[np.int64]) -> RecommendationFigures:
        """Return the figures of those rows (K,) that something was taken after."""
        wanted = rows.tolist()
        return RecommendationFigures(
            np.array([self._place[row] for row in wanted], np.int32),
            np.array([self._novelty[row] for row in wanted]),
            np.array([self._new[row] for row in wanted]),
        )

    def judged(self) -> NDArray[np.int64]:
        """Return the rows that something was taken after, ascending."""
        return np.array(sorted(self._place), np.int64)

    @property
    def coverage(self) -> float:
        """Share of the candidate's own items that were shown at least once; NaN without any."""
        return float(self._seen.mean()) if len(self._seen) else float("nan")
