"""session_rate: one count per another in the current session, smoothed by a prior. State: that of session_sum.py."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.declarations import Feature
from stream_app.features.state.state_schema import Need


def _needs(f: Feature) -> tuple[Need, ...]:
    return Need("session", "session", f.measure), Need("session", "session", f.per)


def _formula(f: Feature) -> str:
    return f"({f.measure} + {f.prior[0]:g}) / ({f.per} + {f.prior[1]:g}) in the current session"


SESSION_RATE: Final = Spec(AggregationCode.SESSION_RATE, _needs, _formula)
