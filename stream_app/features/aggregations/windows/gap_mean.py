"""gap_mean: the mean time between the events of a window. State: their count, and the times of the first and the latest."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need


def _needs(f: Feature) -> tuple[Need, ...]:
    return tuple(Need(f.window, op, f.measure) for op in ("sum", "first", "latest"))


GAP_MEAN: Final = Spec(AggregationCode.GAP_MEAN, _needs, lambda f: f"(last - first) / ({f.measure} - 1) over {f.window}")


@inlined
def read_gap_mean(count: Int, first: Int, latest: Int, default: Real) -> Real:
    """Return the mean seconds between neighbours; `default` below two events.

    >>> read_gap_mean(3, 1_000, 5_000, 0.0)
    2.0
    """
    return (latest - first) / 1000.0 / (count - 1) if count >= 2 else default
