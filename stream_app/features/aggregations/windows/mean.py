"""mean: a sum over a count."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec, measure_and_per
from stream_app.features.jit import Int, Real, inlined

MEAN: Final = Spec(AggregationCode.MEAN, measure_and_per, lambda f: f"mean {f.measure} / {f.per} over {f.window}")


@inlined
def read_mean(total: Int, count: Int, scale: Real, default: Real) -> Real:
    """Return total / count in the measure's unit; `default` for a count of 0.

    >>> read_mean(3000, 2, 0.01, 0.0)  # two orders, 30.00 together
    15.0
    >>> read_mean(0, 0, 0.01, -1.0)
    -1.0
    """
    return total * scale / count if count > 0 else default
