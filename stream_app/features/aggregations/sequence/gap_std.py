"""gap_std: the standard deviation of the times between a user's last interactions."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.spec import AggregationCode, Spec, no_state
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.sequence import ENTRY, SEQUENCE

GAP_STD: Final = Spec(AggregationCode.GAP_STD, no_state, lambda _: f"std of the gaps of the last {SEQUENCE} interactions")


@inlined
def gap_ms(row: NDArray[np.int64], start: Int, total: Int, back: Int) -> Int:
    """Return the time between interactions `back` and `back` + 1, counted from the newest, which is 1."""
    newer = start + 1 + ((total - back) % SEQUENCE) * ENTRY
    older = start + 1 + ((total - back - 1) % SEQUENCE) * ENTRY
    return np.int64(abs(row[newer] - row[older]))


@inlined
def read_gap_std(row: NDArray[np.int64], start: Int, default: Real) -> Real:
    """Return the population standard deviation of the gaps in seconds; `default` below three interactions."""
    total = row[start]
    gaps = min(total, np.int64(SEQUENCE)) - 1
    if gaps < 2:
        return default
    seconds, squares = np.float64(0.0), np.float64(0.0)
    for back in range(1, gaps + 1):
        seconds += gap_ms(row, start, total, back) / 1000.0
    mean = seconds / gaps
    for back in range(1, gaps + 1):
        off = gap_ms(row, start, total, back) / 1000.0 - mean
        squares += off * off
    return np.float64(np.sqrt(squares / gaps))
