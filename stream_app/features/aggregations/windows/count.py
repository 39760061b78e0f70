"""count: how many events of a window have the measure. It is the sum of a measure that is 1 (see sum.py)."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.aggregations.windows.sum import needs

COUNT: Final = Spec(AggregationCode.COUNT, needs, lambda f: f"count {f.measure} over {f.window}")
