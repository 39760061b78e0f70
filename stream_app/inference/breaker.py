"""When to ask the model, when to do without it, and when to try it again. Holds no model and no thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["Breaker"]

_FAILURES: Final = 3  # in a row: one batch may be to blame for one or two, not for three
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 60.0


class Breaker:
    """A circuit breaker: closed while the model answers, open while it does not.

    It opens at the first answer that is too slow, since each costs a batch all the time there is, or at the third failure in a
    row. Open, it asks for a probe after a second, and after twice as long for each that fails, up to a minute.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._wait_s = _FIRST_WAIT_S
        self._try_at = 0.0
        self.opened_at: float | None = None  # None while it is closed

    @property
    def wait_s(self) -> float:
        """How long after a failed probe the next one is due."""
        return self._wait_s

    def probe_is_due(self) -> bool:
        """Whether the model should be tried again; only while it is open."""
        return self._clock() >= self._try_at

    def succeeded(self) -> None:
        """The model has answered, in time."""
        self._failures, self._wait_s, self.opened_at = 0, _FIRST_WAIT_S, None

    def replaced(self) -> None:
        """Another model serves: what this one has failed at says nothing of it, and it may be tried at once."""
        self._failures, self._wait_s, self._try_at = 0, _FIRST_WAIT_S, self._clock()

    def failed(self, *, too_slow: bool) -> None:
        """It has not."""
        self._failures += 1
        if self.opened_at is not None:  # a probe
            self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
        elif too_slow or self._failures >= _FAILURES:
            self.opened_at = self._clock()
        self._try_at = self._clock() + self._wait_s
