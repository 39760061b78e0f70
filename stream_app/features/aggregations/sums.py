"""count, sum: what the events of a window add up to."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need

__all__ = ["SPECS", "SUM", "read_sum"]

SUM: Final = 0


def _needs(f: Feature) -> tuple[Need, ...]:
    return (Need(f.window, "sum", f.measure),)


SPECS: Final = {
    "count": Spec(SUM, _needs, lambda f: f"count {f.measure} over {f.window}"),
    "sum": Spec(SUM, _needs, lambda f: f"sum {f.measure} over {f.window}"),
}


@inlined
def read_sum(total: Int, scale: Real) -> Real:
    """Return the sum in the measure's unit."""
    return total * scale
