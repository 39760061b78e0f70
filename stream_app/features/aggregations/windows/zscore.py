"""zscore: this event's own value in standard deviations from the mean of the window. State: that of std.py."""

from __future__ import annotations

from typing import Final

import numpy as np

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.aggregations.windows.std import clipped, deviation, needs
from stream_app.features.jit import Int, Real, inlined

ZSCORE: Final = Spec(AggregationCode.ZSCORE, needs, lambda f: f"(own {f.measure} - mean) / std over {f.window}")


@inlined
def read_zscore(own: Int, total: Int, squares: Int, count: Int, default: Real) -> Real:
    """Return (own - mean) / std, without a unit; `default` without an own value, below two events, or with a std of 0."""
    if own == 0 or count < 2:
        return default
    std = deviation(total, squares, count)
    return (clipped(own) - total / np.float64(count)) / std if std > 0.0 else default
