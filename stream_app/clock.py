"""The only module that reads the machine's clock, so that a replay can set the time.

Times are integers: epoch milliseconds UTC. Event time is a field of the event, never the clock's.
"""

from __future__ import annotations

import time
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
