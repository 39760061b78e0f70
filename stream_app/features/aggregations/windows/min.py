"""min: the smallest value above 0 of a window. A cell of 0 is empty; tiles merge by the lesser value that is not 0."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need


def needs(feature: Feature) -> tuple[Need, ...]:
    """Return the extreme of the measure that the aggregation is named after."""
    return (Need(feature.window, feature.aggregation, feature.measure),)


MIN: Final = Spec(AggregationCode.MIN, needs, lambda f: f"min {f.measure} over {f.window}")


@inlined
def join_min(a: Int, b: Int) -> Int:
    """Return the lesser of two values, where 0 is no value.

    >>> [join_min(3, 5), join_min(0, 5), join_min(3, 0)]
    [3, 5, 3]
    """
    if a == 0:
        return b
    return min(a, b) if b > 0 else a


@inlined
def read_extreme(value: Int, scale: Real, default: Real) -> Real:
    """Return a minimum or maximum in the measure's unit; `default` where no event has a value."""
    return value * scale if value > 0 else default
