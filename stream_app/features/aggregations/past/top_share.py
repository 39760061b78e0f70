"""top_share: the part of an entity's events that have one of its most frequent values. State: that of share.py."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.past.share import needs
from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.jit import Int, Real, inlined

TOP_SHARE: Final = Spec(AggregationCode.TOP_SHARE, needs, lambda f: f"share of the top {f.top} {f.measure}, {f.cells} cells")


@inlined
def read_top_share(row: NDArray[np.int64], at: Int, cells: Int, top: Int, default: Real) -> Real:
    """Return the share of the `top` fullest cells: one pass for each rank, since `top` is small."""
    total = np.int64(0)
    for c in range(at, at + cells):
        total += row[c]
    if total == 0:
        return default
    taken, bound, places = np.int64(0), np.int64(0x7FFFFFFFFFFFFFFF), top
    while places > 0:
        most, alike = np.int64(0), np.int64(0)
        for c in range(at, at + cells):
            if row[c] < bound:
                if row[c] > most:
                    most, alike = row[c], np.int64(1)
                elif row[c] == most:
                    alike += 1
        if most == 0:
            break
        used = min(alike, places)
        taken += most * used
        places -= used
        bound = most
    return taken / np.float64(total)
