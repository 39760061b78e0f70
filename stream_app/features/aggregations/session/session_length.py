"""session_length: the seconds from the start of the current session until this event. State: that of session_sum.py."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec, no_state

SESSION_LENGTH: Final = Spec(AggregationCode.SESSION_LENGTH, no_state, lambda _: "time since the current session began")
