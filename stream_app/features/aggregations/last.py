"""last, changed: the newest value of a measure, and whether this event's own differs from it.

State: time_ms + 1 and the value. Of two values at one time the larger counts, so that order does not matter.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.spec import Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need

__all__ = ["CHANGED", "LAST", "SPECS", "add_last", "read_changed", "read_last"]

LAST: Final = 15
CHANGED: Final = 16


def _needs(f: Feature) -> tuple[Need, ...]:
    return (Need("last", "last", f.measure),)


SPECS: Final = {
    "last": Spec(LAST, _needs, lambda f: f"newest {f.measure}"),
    "changed": Spec(CHANGED, _needs, lambda f: f"whether own {f.measure} differs from the newest before"),
}


@inlined
def add_last(row: NDArray[np.int64], at: Int, stored: Int, value: Int) -> None:
    """Add, or merge, a value of time `stored` - 1."""
    if value > 0 and (stored > row[at] or (stored == row[at] and value > row[at + 1])):
        row[at] = stored
        row[at + 1] = value


@inlined
def read_last(stored: Int, value: Int, scale: Real, default: Real) -> Real:
    """Return the newest value in the measure's unit."""
    return value * scale if stored > 0 else default


@inlined
def read_changed(own: Int, stored: Int, value: Int, default: Real) -> Real:
    """Return 1 or 0; `default` if there is nothing to compare."""
    if own == 0 or stored == 0:
        return default
    return np.float64(1.0 if own != value else 0.0)
