"""rate: one thing for each of another, smoothed by a prior so that few events say little."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need

__all__ = ["RATE", "SPECS", "read_rate"]

RATE: Final = 6


def _needs(f: Feature) -> tuple[Need, ...]:
    return Need(f.window, "sum", f.measure), Need(f.window, "sum", f.per)


def _formula(f: Feature) -> str:
    return f"rate ({f.measure} + {f.prior[0]:g}) / ({f.per} + {f.prior[1]:g}) over {f.window}"


SPECS: Final = {"rate": Spec(RATE, _needs, _formula)}


@inlined
def read_rate(total: Int, count: Int, scale: Real, up: Real, down: Real) -> Real:
    """Return (total + up) / (count + down); down > 0."""
    return (total * scale + up) / (count + down)
