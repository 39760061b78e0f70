"""Sends no faster than a rate, and reports progress now and then, on a monotonic clock.

A pace never catches up more than a second of lost time, so that a stall is not followed by a flood.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pace"]

_FORGIVEN_S: Final = 1.0


class Pace:
    """Holds a sender to `per_s` units a second; 0 means as fast as it can."""

    def __init__(
        self,
        per_s: float,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap_s = 1.0 / per_s if per_s else 0.0
        self._now_s = now_s
        self._sleep = sleep
        self._due_s: float | None = None  # the first one goes at once, whenever it comes

    def wait(self, units: int = 1) -> None:
        """Wait until the next `units` may be sent."""
        if not self._gap_s:
            return
        now_s = self._now_s()
        due_s = now_s if self._due_s is None else max(self._due_s, now_s - _FORGIVEN_S)
        if due_s > now_s:
            self._sleep(due_s - now_s)
        self._due_s = due_s + units * self._gap_s
