"""gap_min: the shortest time between a user's last interactions."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.sequence.gap_std import gap_ms
from stream_app.features.aggregations.spec import AggregationCode, Spec, no_state
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.sequence import SEQUENCE

GAP_MIN: Final = Spec(AggregationCode.GAP_MIN, no_state, lambda _: f"shortest gap of the last {SEQUENCE} interactions")


@inlined
def read_gap_min(row: NDArray[np.int64], start: Int, default: Real) -> Real:
    """Return the shortest gap in seconds; `default` below two interactions."""
    total = row[start]
    gaps = min(total, np.int64(SEQUENCE)) - 1
    if gaps < 1:
        return default
    least = gap_ms(row, start, total, np.int64(1))
    for back in range(2, gaps + 1):
        least = min(least, gap_ms(row, start, total, back))
    return least / 1000.0
