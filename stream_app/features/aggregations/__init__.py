"""The aggregations: each file has what one adds to the state, how two states merge, and how a feature is read.

A new one is a file with its `SPECS`, its name in declare.Aggregation, a line here, and a line in the switch of fold.py.
"""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations import (
    decayed,
    distinct,
    extremes,
    gaps,
    histogram,
    last,
    mean,
    own,
    rate,
    ratio,
    recency,
    session,
    spread,
    sums,
    trend,
)
from stream_app.features.aggregations.spec import Spec

__all__ = ["SPECS"]

_MODULES: Final = (
    sums, mean, extremes, spread, rate, ratio, trend, decayed, gaps, distinct, recency, last, histogram, session, own,
)  # fmt: skip
SPECS: Final[dict[str, Spec]] = {name: spec for module in _MODULES for name, spec in module.SPECS.items()}
