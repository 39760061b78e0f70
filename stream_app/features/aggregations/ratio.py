"""ratio: the event's own value over the mean of its entity's past, the entity's own baseline."""

from __future__ import annotations

from typing import Final

import numpy as np

from stream_app.features.aggregations.spec import Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need

__all__ = ["RATIO", "SPECS", "read_ratio"]

RATIO: Final = 7


def _needs(f: Feature) -> tuple[Need, ...]:
    return Need(f.window, "sum", f.measure), Need(f.window, "sum", f.per)


SPECS: Final = {"ratio": Spec(RATIO, _needs, lambda f: f"own {f.measure} / mean {f.measure} per {f.per} over {f.window}")}


@inlined
def read_ratio(own: Int, total: Int, count: Int, default: Real) -> Real:
    """Return own / (total / count): both are in cents, so the unit cancels out; 0 without own value."""
    if own == 0:
        return np.float64(0.0)
    return own * np.float64(count) / total if total > 0 and count > 0 else default
