"""sum: the total of a measure over the events of a window. Tiles merge by addition."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need


def needs(feature: Feature) -> tuple[Need, ...]:
    """Return the sum of the measure."""
    return (Need(feature.window, "sum", feature.measure),)


SUM: Final = Spec(AggregationCode.SUM, needs, lambda f: f"sum {f.measure} over {f.window}")


@inlined
def read_sum(total: Int, scale: Real) -> Real:
    """Return the sum in the measure's unit.

    >>> read_sum(2550, 0.01)  # cents
    25.5
    """
    return total * scale
