"""rank: the place of this event's own value among its entity's values, by frequency. State: that of share.py."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.past.share import needs
from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.jit import Int, Real, inlined

RANK: Final = Spec(AggregationCode.RANK, needs, lambda f: f"rank of own {f.measure} among {f.cells} cells")


@inlined
def read_rank(row: NDArray[np.int64], at: Int, cells: Int, own: Int) -> Real:
    """Return 1 + how many cells are fuller than the own value's; 0 without own value, or if its cell is empty."""
    if own == 0:
        return np.float64(0.0)
    here, rank = row[at + (own - 1) % cells], np.int64(1)
    if here == 0:
        return np.float64(0.0)
    for c in range(at, at + cells):
        if row[c] > here:
            rank += 1
    return np.float64(rank)
