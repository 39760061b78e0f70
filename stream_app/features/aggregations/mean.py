"""mean: a sum over a count."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need

__all__ = ["MEAN", "SPECS", "read_mean"]

MEAN: Final = 1


def _needs(f: Feature) -> tuple[Need, ...]:
    return Need(f.window, "sum", f.measure), Need(f.window, "sum", f.per)


SPECS: Final = {"mean": Spec(MEAN, _needs, lambda f: f"mean {f.measure} / {f.per} over {f.window}")}


@inlined
def read_mean(total: Int, count: Int, scale: Real, default: Real) -> Real:
    """Return total / count; `default` without a count."""
    return total * scale / count if count > 0 else default
