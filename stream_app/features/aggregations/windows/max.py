"""max: the largest value of a window. Tiles merge by the greater; a cell of 0 is empty."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.aggregations.windows.min import needs

MAX: Final = Spec(AggregationCode.MAX, needs, lambda f: f"max {f.measure} over {f.window}")
