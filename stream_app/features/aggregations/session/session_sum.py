"""session_sum: the total of a measure in the current session.

A session ends when no event comes for longer than the gap, in event time. Only the newest session is kept. State: start_ms + 1,
last_ms + 1, then one sum per measure.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, inlined
from stream_app.features.state.state_schema import Need


def _needs(f: Feature) -> tuple[Need, ...]:
    return (Need("session", "session", f.measure),)


SESSION_SUM: Final = Spec(AggregationCode.SESSION_SUM, _needs, lambda f: f"sum {f.measure} in the current session")


@inlined
def session_holds(row: NDArray[np.int64], at: Int, t: Int, gap_ms: Int) -> bool:
    """Whether an event at t belongs to the stored session."""
    return bool(row[at] != 0 and t + 1 - row[at + 1] <= gap_ms and row[at] - (t + 1) <= gap_ms)


@inlined
def add_session(
    row: NDArray[np.int64], at: Int, t: Int, gap_ms: Int, values: NDArray[np.int64], measures: NDArray[np.int64]
) -> None:
    """Add one event to the stored session, or begin a new one with it; ignore an event of a session that is closed."""
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
