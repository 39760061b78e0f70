"""ratio: the event's own value over the mean of its entity's window, which is the entity's own baseline."""

from __future__ import annotations

from typing import Final

import numpy as np

from stream_app.features.aggregations.spec import AggregationCode, Spec, measure_and_per
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined


def _formula(f: Feature) -> str:
    return f"own {f.measure} / mean {f.measure} per {f.per} over {f.window}"


RATIO: Final = Spec(AggregationCode.RATIO, measure_and_per, _formula)


@inlined
def read_ratio(own: Int, total: Int, count: Int, default: Real) -> Real:
    """Return own / (total / count): both are in cents, so the unit cancels out; 0 without own value."""
    if own == 0:
        return np.float64(0.0)
    return own * np.float64(count) / total if total > 0 and count > 0 else default
