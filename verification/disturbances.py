"""Faults injected into a running system, each at a share of the answers: kill -9, SIGTERM, a restart of the broker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A fault to inject when `at_share` of all events have answers."""

    what: str
    at_share: float
    act: Callable[[], None]


@dataclass(slots=True)
class Schedule:
    """The disturbances of a run, in order; `done` has the share at which each of them happened."""

    waiting: list[Disturbance]
    done: list[tuple[str, float]] = field(default_factory=list)

    def step(self, share: float) -> Disturbance | None:
        """Do the next disturbance if it is due; return it. One at a time, so that each meets a running system."""
        if not self.waiting or share < self.waiting[0].at_share:
            return None
        disturbance = self.waiting.pop(0)
        disturbance.act()
        self.done.append((disturbance.what, round(share, 3)))
        return disturbance

    def count(self, what: str) -> int:
        """Return how many of a kind were done while answers were still to come."""
        return sum(1 for name, share in self.done if name == what and share < 1.0)
