"""Bootstrap intervals: users are drawn with replacement, each with all events, and the figure is counted again.

Events of one user are dependent, so drawing events would give intervals that are too narrow (cluster bootstrap: Field and Welsh,
"Bootstrapping clustered data", JRSS B 2007). A draw is a weight for each user: how often it was drawn. All contenders share the
draws, so the difference of two has an interval of its own. Intervals are the percentiles 2.5 and 97.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Figures:
    """Figures of one contender.

    Attributes:
        figures: name -> JSON values, for the report.
        drawn: figure -> (1 + draws,) values, to compare two contenders.
    """

    figures: dict[str, Any]
    drawn: dict[str, NDArray[np.float64]]

    def against(self, name: str, base: Figures) -> dict[str, Any]:
        """Return the difference to the contender of this name on the same draws, for the report."""
        pairs = {figure: interval_of(drawn - base.drawn[figure]) for figure, drawn in self.drawn.items()}
        return {"against": name, "difference": pairs}


class BootstrapSamples:
    """Draws of users; `user` (N,) is that of each event."""

    def __init__(self, user: NDArray[np.int64], draws: int, seed: int) -> None:
        # In order of their first event, so that draws do not depend on how users are numbered.
        numbers, first, of_event = np.unique(user, return_index=True, return_inverse=True)
        order = np.argsort(first)
        self.users, self.of_event = numbers[order], np.argsort(order)[of_event]
        self._count, self._seed = draws, seed

    def weights(self) -> Iterator[Weights]:
        """Yield the weight (U,) of every user for each draw; the weights sum to U, and each call yields the same."""
        generator, users = np.random.default_rng(self._seed), len(self.users)
        for _ in range(self._count):
            yield np.bincount(generator.integers(0, max(1, users), users), minlength=users).astype(np.float64)

    def values(self, figure: Callable[[Weights], float | Weights]) -> NDArray[np.float64]:
        """Return a figure (1 + draws,) of weights by user (U,): first with each user once, then of each draw.

        A figure that has K values at once gives (1 + draws, K).
        """
        once = np.ones(len(self.users))
        return np.array([figure(once), *(figure(row) for row in self.weights())])

    def sums(self, per_event: NDArray[Any]) -> NDArray[np.float64]:
        """Return sums (1 + draws, K) of K things over events (N, K)."""
        columns = per_event.astype(np.float64).T
        totals = np.stack([np.bincount(self.of_event, column, len(self.users)) for column in columns], axis=1)  # (U, K)
        return self.values(lambda weights: weights @ totals)

    def ratios(self, above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
        """Return the ratio (1 + draws,) of two sums over events (N,); NaN where the lower one is 0."""
        over, under = self.sums(np.stack([above, below], axis=1)).T
        ratio: NDArray[np.float64] = np.divide(over, under, out=np.full(len(over), np.nan), where=under != 0)
        return ratio


def interval_of(values: NDArray[np.float64]) -> dict[str, float]:
    """Return `value`, `low` and `high` of (1 + draws,) values of `BootstrapSamples.values`: the figure and its 95 % interval.

    Undefined draws are left out; NaN if undefined.
    """
    drawn = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
    return {"value": float(values[0]), "low": float(low), "high": float(high)}
