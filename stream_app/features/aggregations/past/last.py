"""last: the newest value of a measure.

State: time_ms + 1 and the value. Of two values at one time the larger counts, so that order does not matter.
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
    """Return the measure's last value."""
    return (Need("last", "last", feature.measure),)


LAST: Final = Spec(AggregationCode.LAST, needs, lambda f: f"newest {f.measure}")


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
