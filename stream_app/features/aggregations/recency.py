"""recency, age: time since the newest and since the first event."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.sequence import seconds_since
from stream_app.features.state.state_schema import Need

__all__ = ["AGE", "RECENCY", "RECENCY_OF", "SPECS", "read_since"]

RECENCY: Final = 12
AGE: Final = 13
RECENCY_OF: Final = 14  # of a measure: recency with a `last` cell


def _needs(f: Feature) -> tuple[Need, ...]:
    return (Need("last", "last", f.measure),) if f.measure else ()


SPECS: Final = {
    "recency": Spec(RECENCY, _needs, lambda f: f"time since the newest {f.measure or 'event'}"),
    "age": Spec(AGE, lambda _: (), lambda _: "time since the first event"),
}


@inlined
def read_since(stored: Int, t: Int, default: Real) -> Real:
    """Return the seconds since a stored time (ms + 1, 0 for none)."""
    return seconds_since(stored, t) if stored > 0 else default
