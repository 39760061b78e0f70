"""Seeded chance: every random number of the simulator comes from a generator made here.

One named generator per concern, so that more of one thing (say duplicates) does not change another (say who buys what).
Only `random()` is used on the hot path: its sequence for a seed is guaranteed by Python, 40 ns a draw.
"""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import accumulate


def seeded(seed: int, name: str) -> random.Random:
    """Return the generator of one concern; the same seed and name give the same sequence in every process."""
    return random.Random(f"millrace:{seed}:{name}")  # a simulation, not a secret


def cumulative(weights: Iterable[float]) -> list[float]:
    """Return running sums of weights (> 0), for `pick`."""
    return list(accumulate(weights))


def pick(rng: random.Random, running: Sequence[float]) -> int:
    """Draw an index with the probability its weight has in `running` (from `cumulative`)."""
    return bisect(running, rng.random() * running[-1], 0, len(running) - 1)


def skewed_index(rng: random.Random, count: int, skew: float = 1.6) -> int:
    """Draw an index below `count`; low ones come more often the larger `skew` is (1 = uniform)."""
    return int(count * rng.random() ** skew)


def between(rng: random.Random, low: int, high: int) -> int:
    """Draw an integer in [low, high], uniform."""
    return low + int(rng.random() * (high - low + 1))


def exponential(rng: random.Random, mean: float) -> float:
    """Draw from an exponential distribution: the gap between independent events."""
    return -math.log(1.0 - rng.random()) * mean


def spread(rng: random.Random, typical: float, factor: float) -> float:
    """Draw around `typical`, log-triangular within [typical / factor, typical * factor]: skewed, bounded, cheap."""
    return float(typical * factor ** (rng.random() + rng.random() - 1.0))
