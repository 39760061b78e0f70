"""The rate of visits over the week: quiet nights, busy evenings, fuller weekends.

Arrivals are a Poisson process whose rate follows the hour of the week (UTC), by thinning (Lewis and Shedler, 1979). The
factors have mean 1 over the week, so the mean rate is the configured one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from stream_app.simulator.draws import exponential

_HOUR_MS: Final = 3_600_000
_HOURS: Final = (4, 2, 2, 1, 1, 2, 4, 7, 9, 11, 12, 13, 14, 12, 11, 11, 12, 14, 17, 20, 22, 20, 14, 8)
_DAYS: Final = (0.94, 0.92, 0.93, 0.96, 1.05, 1.12, 1.08)  # Monday first
_FIRST_DAY: Final = 3  # 1970-01-01 was a Thursday


def _week() -> tuple[float, ...]:
    raw = [hour * day for day in _DAYS for hour in _HOURS]
    mean = sum(raw) / len(raw)
    return tuple(value / mean for value in raw)


WEEK: Final = _week()  # 168 factors, Monday 00:00 UTC first, mean 1


def arrival_times(rng: random.Random, per_ms: float, start_ms: int, *, rhythm: bool) -> Iterator[int]:
    """Yield arrival times in epoch milliseconds for ever, not before `start_ms`, ascending; mean rate `per_ms` over a week."""
    top = max(WEEK) if rhythm else 1.0
    mean_gap = 1.0 / (per_ms * top)
    now = float(start_ms)
    while True:
        now += exponential(rng, mean_gap)
        if not rhythm:
            yield int(now)
            continue
        hour = (int(now) // _HOUR_MS + 24 * _FIRST_DAY) % len(WEEK)
        if rng.random() * top < WEEK[hour]:
            yield int(now)
