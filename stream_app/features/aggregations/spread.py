"""std, zscore: how far the values of a window lie apart, and how far from their mean this event's own value is.

A value counts as at most 100,000 units of currency, in its square and in the mean alike: so one giant order cannot hide the next
ones behind a variance below zero. A square is kept in units of 128: those of 10 million such orders fit into 63 bits.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from stream_app.features.aggregations.spec import Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need

__all__ = ["SPECS", "STD", "ZSCORE", "clipped", "read_std", "read_zscore", "square"]

STD: Final = 4
ZSCORE: Final = 5
_MOST: Final = 10_000_000
_BITS: Final = 7


def _needs(f: Feature) -> tuple[Need, ...]:
    return Need(f.window, "clipped", f.measure), Need(f.window, "square", f.measure), Need(f.window, "sum", f.per)


SPECS: Final = {
    "std": Spec(STD, _needs, lambda f: f"std {f.measure} over {f.window}"),
    "zscore": Spec(ZSCORE, _needs, lambda f: f"(own {f.measure} - mean) / std over {f.window}"),
}


@inlined
def clipped(value: Int) -> Int:
    """Return what one event adds to a clipped sum."""
    return min(value, np.int64(_MOST))


@inlined
def square(value: Int) -> Int:
    """Return what one event adds to a cell of squares."""
    v = min(value, np.int64(_MOST))
    return (v * v) >> _BITS


@inlined
def _std(total: Int, squares: Int, count: Int) -> Real:
    """Return the population standard deviation in the measure's integers; 0 where rounding makes its square negative."""
    mean = total / np.float64(count)
    variance = squares * np.float64(1 << _BITS) / count - mean * mean
    return np.sqrt(variance) if variance > 0.0 else np.float64(0.0)


@inlined
def read_std(total: Int, squares: Int, count: Int, scale: Real, default: Real) -> Real:
    """Return it in the measure's unit; `default` below two events."""
    return _std(total, squares, count) * scale if count >= 2 else default


@inlined
def read_zscore(own: Int, total: Int, squares: Int, count: Int, default: Real) -> Real:
    """Return (own - mean) / std, without a unit; `default` without an own value, below two events, or with a std of 0."""
    if own == 0 or count < 2:
        return default
    std = _std(total, squares, count)
    return (min(own, np.int64(_MOST)) - total / np.float64(count)) / std if std > 0.0 else default
