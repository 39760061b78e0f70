"""share, top_share, rank: how an entity's events spread over the values of a measure (hours, weekdays, categories).

State: one count a cell; value v > 0 is counted in cell (v - 1) % cells. Merge: cell by cell.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.spec import Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need

__all__ = ["RANK", "SHARE", "SPECS", "TOP_SHARE", "add_count", "read_rank", "read_share", "read_top"]

SHARE: Final = 17
TOP_SHARE: Final = 18
RANK: Final = 19


def _needs(f: Feature) -> tuple[Need, ...]:
    return (Need("histogram", "histogram", f.measure, f.cells),)


SPECS: Final = {
    "share": Spec(
        SHARE, _needs, lambda f: f"(events of own {f.measure} + {f.prior[0]:g}) / (all + {f.prior[1]:g}), {f.cells} cells"
    ),
    "top_share": Spec(TOP_SHARE, _needs, lambda f: f"share of the top {f.top} {f.measure}, {f.cells} cells"),
    "rank": Spec(RANK, _needs, lambda f: f"rank of own {f.measure} among {f.cells} cells"),
}


@inlined
def add_count(row: NDArray[np.int64], at: Int, cells: Int, value: Int) -> None:
    """Count one event's value."""
    if value > 0:
        row[at + (value - 1) % cells] += 1


@inlined
def read_share(
    row: NDArray[np.int64],
    at: Int,
    cells: Int,
    own: Int,
    up: Real,
    down: Real,
    default: Real,
) -> Real:
    """Return the smoothed share of the own value's cell."""
    if own == 0:
        return default
    total = np.int64(0)
    for c in range(at, at + cells):
        total += row[c]
    return np.float64((row[at + (own - 1) % cells] + up) / (total + down))


@inlined
def read_top(row: NDArray[np.int64], at: Int, cells: Int, top: Int, default: Real) -> Real:
    """Return the share of the `top` fullest cells: a pass a place, since few are asked for."""
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
