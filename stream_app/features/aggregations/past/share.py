"""share: the part of an entity's events that have the same value as this one (an hour, a weekday, a category).

State: a histogram, one count per cell; value v > 0 is counted in cell (v - 1) % cells. Histograms merge cell by cell.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need


def needs(feature: Feature) -> tuple[Need, ...]:
    """Return the measure's histogram."""
    return (Need("histogram", "histogram", feature.measure, feature.cells),)


def _formula(f: Feature) -> str:
    return f"(events of own {f.measure} + {f.prior[0]:g}) / (all + {f.prior[1]:g}), {f.cells} cells"


SHARE: Final = Spec(AggregationCode.SHARE, needs, _formula)


@inlined
def add_count(row: NDArray[np.int64], at: Int, cells: Int, value: Int) -> None:
    """Count one event's value."""
    if value > 0:
        row[at + (value - 1) % cells] += 1


@inlined
def read_share(row: NDArray[np.int64], at: Int, cells: Int, own: Int, up: Real, down: Real, default: Real) -> Real:
    """Return the smoothed share of the own value's cell."""
    if own == 0:
        return default
    total = np.int64(0)
    for c in range(at, at + cells):
        total += row[c]
    return np.float64((row[at + (own - 1) % cells] + up) / (total + down))
