"""The only place that reads the machine's clock, so that replay can own time.

Times are integers: epoch milliseconds UTC. Event time never comes from here; it comes with the event.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SettableClock", "SystemClock"]


class Clock(Protocol):
    """What tells the time of the machine, or of a replay."""

    def now_ms(self) -> int:
        """Return the time now in epoch milliseconds UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        """Return the machine's time in epoch milliseconds UTC."""
        return time.time_ns() // 1_000_000


class SettableClock:
    """A clock that stands until it is set; replay and tests own it."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Return the time it was last set to, in epoch milliseconds UTC."""
        return self._now_ms

    def set_ms(self, now_ms: int) -> None:
        """Set the time, in epoch milliseconds UTC."""
        self._now_ms = now_ms
