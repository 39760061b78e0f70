"""Limit a sender to a rate, on a monotonic clock.

A pace catches up at most one second of lost time, so a stall is not followed by a flood.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_CATCH_UP_S: Final = 1.0


class Pace:
    """Limits a sender to `per_s` units per second; 0 means no limit."""

    def __init__(
        self,
        per_s: float,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap_s = 1.0 / per_s if per_s else 0.0
        self._now_s = now_s
        self._sleep = sleep
        self._due_s: float | None = None  # the first unit goes at once

    def wait(self, units: int = 1) -> None:
        """Wait until the next `units` may be sent."""
        if not self._gap_s:
            return
        now_s = self._now_s()
        due_s = now_s if self._due_s is None else max(self._due_s, now_s - _CATCH_UP_S)
        if due_s > now_s:
            self._sleep(due_s - now_s)
        self._due_s = due_s + units * self._gap_s
