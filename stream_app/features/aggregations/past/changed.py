"""changed: whether this event's own value differs from the newest value before it. State: that of last.py."""

from __future__ import annotations

from typing import Final

import numpy as np

from stream_app.features.aggregations.past.last import needs
from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.jit import Int, Real, inlined

CHANGED: Final = Spec(AggregationCode.CHANGED, needs, lambda f: f"whether own {f.measure} differs from the newest before")


@inlined
def read_changed(own: Int, stored: Int, value: Int, default: Real) -> Real:
    """Return 1 or 0; `default` if there is nothing to compare."""
    if own == 0 or stored == 0:
        return default
    return np.float64(1.0 if own != value else 0.0)
