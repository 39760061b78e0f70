"""recency: time since the newest event, or since the newest event of a measure."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.sequence import seconds_since
from stream_app.features.state.state_schema import Need


def _needs(f: Feature) -> tuple[Need, ...]:
    # Without a measure the operand stays column 0, the time of the entity's newest event.
    return (Need("last", "last", f.measure),) if f.measure else ()


RECENCY: Final = Spec(AggregationCode.RECENCY, _needs, lambda f: f"time since the newest {f.measure or 'event'}")


@inlined
def read_since(stored: Int, t: Int, default: Real) -> Real:
    """Return the seconds since a stored time (ms + 1, 0 for none)."""
    return seconds_since(stored, t) if stored > 0 else default
