"""session_sum, session_rate, session_length: the current session, which ends when event time brings a long enough silence.

State: start_ms + 1, last_ms + 1, then one sum a measure. Only the newest session is kept.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.spec import Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.sequence import seconds_since
from stream_app.features.state.state_schema import Need

__all__ = [
    "SESSION_LENGTH",
    "SESSION_RATE",
    "SESSION_SUM",
    "SPECS",
    "add_session",
    "read_session_length",
    "session_holds",
]

SESSION_SUM: Final = 22
SESSION_RATE: Final = 23
SESSION_LENGTH: Final = 24


def _sum(f: Feature) -> tuple[Need, ...]:
    return (Need("session", "session", f.measure),)


def _rate(f: Feature) -> tuple[Need, ...]:
    return Need("session", "session", f.measure), Need("session", "session", f.per)


SPECS: Final = {
    "session_sum": Spec(SESSION_SUM, _sum, lambda f: f"sum {f.measure} in the current session"),
    "session_rate": Spec(
        SESSION_RATE,
        _rate,
        lambda f: f"({f.measure} + {f.prior[0]:g}) / ({f.per} + {f.prior[1]:g}) in the current session",
    ),
    "session_length": Spec(SESSION_LENGTH, lambda _: (), lambda _: "time since the current session began"),
}


@inlined
def session_holds(row: NDArray[np.int64], at: Int, t: Int, gap_ms: Int) -> bool:
    """Whether an event at t belongs to the session that is kept."""
    return bool(row[at] != 0 and t + 1 - row[at + 1] <= gap_ms and row[at] - (t + 1) <= gap_ms)


@inlined
def add_session(
    row: NDArray[np.int64],
    at: Int,
    t: Int,
    gap_ms: Int,
    values: NDArray[np.int64],
    measures: NDArray[np.int64],
) -> None:
    """Add one event: to the session, or as the first of a new one; one from before its reach is of a session that is closed."""
    held = session_holds(row, at, t, gap_ms)
    if not held:
        if row[at] != 0 and t + 1 < row[at + 1]:
            return
        row[at] = t + 1
        row[at + 1] = t + 1
        for s in range(measures.shape[0]):
            row[at + 2 + s] = 0
    row[at] = min(row[at], t + 1)
    row[at + 1] = max(row[at + 1], t + 1)
    for s in range(measures.shape[0]):
        row[at + 2 + s] += values[measures[s]]


@inlined
def read_session_length(start: Int, t: Int) -> Real:
    """Return the seconds since the session's start (ms + 1), not below 0."""
    return seconds_since(start, t)
