"""The aggregations: each file is named after one, and has what it needs of the state, what it adds and how it is read.

    windows/    over the tiles of a window            session/   over the current session
    past/       over an entity's whole past           sequence/  over a user's last interactions
    own.py      a value of the event itself

A new one is a file with its `Spec`, its name in declarations.Aggregation, its code in spec.AggregationCode, a line here, and a
case in the switch of fold.py.
"""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.own import OWN
from stream_app.features.aggregations.past.age import AGE
from stream_app.features.aggregations.past.changed import CHANGED
from stream_app.features.aggregations.past.last import LAST
from stream_app.features.aggregations.past.rank import RANK
from stream_app.features.aggregations.past.recency import RECENCY
from stream_app.features.aggregations.past.share import SHARE
from stream_app.features.aggregations.past.top_share import TOP_SHARE
from stream_app.features.aggregations.sequence.gap_min import GAP_MIN
from stream_app.features.aggregations.sequence.gap_std import GAP_STD
from stream_app.features.aggregations.session.session_length import SESSION_LENGTH
from stream_app.features.aggregations.session.session_rate import SESSION_RATE
from stream_app.features.aggregations.session.session_sum import SESSION_SUM
from stream_app.features.aggregations.spec import Spec
from stream_app.features.aggregations.windows.count import COUNT
from stream_app.features.aggregations.windows.decayed import DECAYED
from stream_app.features.aggregations.windows.distinct import DISTINCT
from stream_app.features.aggregations.windows.gap_mean import GAP_MEAN
from stream_app.features.aggregations.windows.max import MAX
from stream_app.features.aggregations.windows.mean import MEAN
from stream_app.features.aggregations.windows.min import MIN
from stream_app.features.aggregations.windows.rate import RATE
from stream_app.features.aggregations.windows.ratio import RATIO
from stream_app.features.aggregations.windows.std import STD
from stream_app.features.aggregations.windows.sum import SUM
from stream_app.features.aggregations.windows.trend import TREND
from stream_app.features.aggregations.windows.zscore import ZSCORE

SPECS: Final[dict[str, Spec]] = {
    spec.code.name.lower(): spec
    for spec in (
        COUNT, SUM, MEAN, MIN, MAX, STD, ZSCORE, RATE, RATIO, TREND, DECAYED, GAP_MEAN, DISTINCT, RECENCY, AGE, LAST, CHANGED,
        SHARE, TOP_SHARE, RANK, GAP_STD, GAP_MIN, SESSION_SUM, SESSION_RATE, SESSION_LENGTH, OWN,
    )
}  # fmt: skip
