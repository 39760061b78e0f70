"""A circuit breaker: when to call the model, when to skip it, and when to retry. Holds no model and no thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_FAILURES: Final = 3  # in a row: a bad batch explains one or two, not three
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 60.0


class Breaker:
    """Closed while the model answers, open while it fails.

    The breaker opens at the first slow answer, since a slow answer costs a batch its whole time limit, or at the third failure in
    a row. While open it asks for a probe after a second; each failed probe doubles the wait `wait_s`, up to a minute. `clock`
    returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self.wait_s = _FIRST_WAIT_S
        self._try_at = 0.0
        self.opened_at: float | None = None  # None while closed

    def probe_is_due(self) -> bool:
        """Whether the model should be tried again; only meaningful while open."""
        return self._clock() >= self._try_at

    def succeeded(self) -> None:
        """Record that the model answered in time, and close."""
        self._failures, self.wait_s, self.opened_at = 0, _FIRST_WAIT_S, None

    def replaced(self) -> None:
        """Record that another model serves: earlier failures do not count, and a probe is due at once."""
        self._failures, self.wait_s, self._try_at = 0, _FIRST_WAIT_S, self._clock()

    def failed(self, *, too_slow: bool) -> None:
        """Record a failure or a slow answer."""
        self._failures += 1
        if self.opened_at is not None:  # a probe
            self.wait_s = min(2 * self.wait_s, _LONGEST_WAIT_S)
        elif too_slow or self._failures >= _FAILURES:
            self.opened_at = self._clock()
        self._try_at = self._clock() + self.wait_s
