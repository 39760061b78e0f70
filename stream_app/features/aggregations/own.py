"""own: a value of the event itself, independent of any past."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec, no_state

OWN: Final = Spec(AggregationCode.OWN, no_state, lambda f: f"own {f.measure}")
