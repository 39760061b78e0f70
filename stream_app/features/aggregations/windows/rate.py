"""rate: one count per another, smoothed by a prior: a few events hardly move it."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec, measure_and_per
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined


def _formula(f: Feature) -> str:
    return f"rate ({f.measure} + {f.prior[0]:g}) / ({f.per} + {f.prior[1]:g}) over {f.window}"


RATE: Final = Spec(AggregationCode.RATE, measure_and_per, _formula)


@inlined
def read_rate(total: Int, count: Int, scale: Real, up: Real, down: Real) -> Real:
    """Return (total + up) / (count + down); down > 0.

    >>> read_rate(1, 0, 1.0, 1.0, 19.0)  # one cart, no view: far from infinite
    0.10526315789473684
    """
    return (total * scale + up) / (count + down)
