"""trend: the pace of a short window over that of a long one, which is the entity's own baseline."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need


def _needs(f: Feature) -> tuple[Need, ...]:
    return Need(f.window, "sum", f.measure), Need(f.base, "sum", f.measure)


TREND: Final = Spec(AggregationCode.TREND, _needs, lambda f: f"pace of {f.measure} over {f.window} / pace over {f.base}")


@inlined
def read_trend(short: Int, long: Int, lengths: Real, default: Real) -> Real:
    """Return short / long * lengths, `lengths` being the long window's length over the short one's."""
    return short * lengths / long if long > 0 else default
