"""age: time since the entity's first event."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec, no_state

AGE: Final = Spec(AggregationCode.AGE, no_state, lambda _: "time since the first event")
