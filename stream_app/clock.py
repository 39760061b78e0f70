"""The only module that reads the machine's clock, so that a replay can set the time; and how long this process really ran.

Times are integers: epoch milliseconds UTC. Event time is a field of the event, never the clock's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """The time of the machine, or of a replay."""

    def now_ms(self) -> int:
        """Return the time now in epoch milliseconds UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Return the machine's time in epoch milliseconds UTC."""
        return time.time_ns() // 1_000_000


class SettableClock:
    """A clock that changes only when it is set; for replays and tests."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Return the time it was last set to, in epoch milliseconds UTC."""
        return self._now_ms

    def set_ms(self, now_ms: int) -> None:
        """Set the time, in epoch milliseconds UTC."""
        self._now_ms = now_ms


class RunningTime:
    """A stopwatch that leaves out the time in which this process stood: SIGSTOP, a suspended machine, a long garbage collection.

    A process that stands notices nothing but a jump of the clock. So somebody who waits must look often: each look counts the
    time since the last one, but at most `most_gap_s`; what lies beyond is added to `lost_s`. `clock` returns monotonic seconds.
    """

    def __init__(self, most_gap_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._most_gap_s, self._clock = most_gap_s, clock
        self._last, self._ran_s = clock(), 0.0
        self.lost_s = 0.0

    def seconds(self) -> float:
        """Look at the clock; return the seconds that count since the start."""
        now = self._clock()
        gap, self._last = now - self._last, now
        self._ran_s += min(gap, self._most_gap_s)
        self.lost_s += max(0.0, gap - self._most_gap_s)
        return self._ran_s
