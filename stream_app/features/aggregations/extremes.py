"""min, max: over the events of a window that have a value."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need

__all__ = ["EXTREME", "SPECS", "join_min", "read_extreme"]

EXTREME: Final = 2


def _needs(f: Feature) -> tuple[Need, ...]:
    return (Need(f.window, f.aggregation, f.measure),)


SPECS: Final = {
    "min": Spec(EXTREME, _needs, lambda f: f"min {f.measure} over {f.window}"),
    "max": Spec(EXTREME, _needs, lambda f: f"max {f.measure} over {f.window}"),
}


@inlined
def join_min(a: Int, b: Int) -> Int:
    """Return the lesser of what is there; 0 means none."""
    if a == 0:
        return b
    return min(a, b) if b > 0 else a


@inlined
def read_extreme(value: Int, scale: Real, default: Real) -> Real:
    """Return it in the measure's unit; `default` without any."""
    return value * scale if value > 0 else default
