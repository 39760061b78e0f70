"""How sure a figure is: users are drawn with replacement, all events of a user together, and the figure is counted again.

Events of one user hang together, so drawing events would promise too much (cluster bootstrap: Field and Welsh, "Bootstrapping
clustered data", JRSS B 2007). A draw is a weight for each user, how often it was drawn; figures are counted with weights, nothing
is copied. All candidates are judged on the same draws, so a difference of two has its own interval: percentiles 2.5 and 97.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BootstrapSamples", "Figures", "Interval", "interval_of"]

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval; NaN where it cannot be told."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return plain values."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, eq=False)
class Figures:
    """What is said of one candidate.

    Attributes:
        figures: name -> plain values, for the report.
        drawn: figure -> (1 + draws,) values, to tell two candidates apart.
    """

    figures: dict[str, Any]
    drawn: dict[str, NDArray[np.float64]]

    def against(self, name: str, base: Figures) -> dict[str, Any]:
        """Return what the report says of the difference to a candidate of this name, judged on the same draws."""
        pairs = {figure: interval_of(drawn - base.drawn[figure]).to_json() for figure, drawn in self.drawn.items()}
        return {"against": name, "difference": pairs}


class BootstrapSamples:
    """Drawn users.

    Args:
        user: (N,) whose event it is.
        draws: how often all users are drawn anew.
        seed: of the draws.
    """

    def __init__(self, user: NDArray[np.int64], draws: int, seed: int) -> None:
        # In order of their first event: what else was numbered beside them changes no draw.
        numbers, first, of_event = np.unique(user, return_index=True, return_inverse=True)
        order = np.argsort(first)
        self.users, self.of_event = numbers[order], np.argsort(order)[of_event]
        self._count, self._seed = draws, seed

    def weights(self) -> Iterator[Weights]:
        """Yield for each draw how often each user was drawn, (U,), which sums to U; the same ones at every call."""
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
        found: NDArray[np.float64] = np.divide(over, under, out=np.full(len(over), np.nan), where=under != 0)
        return found


def interval_of(values: NDArray[np.float64]) -> Interval:
    """Return the interval of (1 + draws,) values, as `BootstrapSamples.values` gives them; draws without a value are left out."""
    drawn = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high))
