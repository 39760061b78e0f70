"""std: the population standard deviation of a window's values.

A value counts as at most 100,000 units of currency, in its square and in the mean alike: one giant order then cannot hide the
next ones behind a variance below zero. Squares are in units of 128: those of 10 million such orders fit into 63 bits.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need

_MAX_VALUE: Final = 10_000_000
_BITS: Final = 7


def needs(feature: Feature) -> tuple[Need, ...]:
    """Return the sum and the sum of squares of the measure, both of clipped values, and the count."""
    window, measure = feature.window, feature.measure
    return Need(window, "clipped", measure), Need(window, "square", measure), Need(window, "sum", feature.per)


STD: Final = Spec(AggregationCode.STD, needs, lambda f: f"std {f.measure} over {f.window}")


@inlined
def clipped(value: Int) -> Int:
    """Return what one event adds to a clipped sum."""
    return min(value, np.int64(_MAX_VALUE))


@inlined
def square(value: Int) -> Int:
    """Return what one event adds to a cell of squares."""
    v = min(value, np.int64(_MAX_VALUE))
    return (v * v) >> _BITS


@inlined
def deviation(total: Int, squares: Int, count: Int) -> Real:
    """Return the population standard deviation in the measure's integers; 0 where rounding makes its square negative."""
    mean = total / np.float64(count)
    variance = squares * np.float64(1 << _BITS) / count - mean * mean
    return np.sqrt(variance) if variance > 0.0 else np.float64(0.0)


@inlined
def read_std(total: Int, squares: Int, count: Int, scale: Real, default: Real) -> Real:
    """Return the deviation in the measure's unit; `default` below two events."""
    return deviation(total, squares, count) * scale if count >= 2 else default
