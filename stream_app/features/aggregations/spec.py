"""Properties of an aggregation for the state layout and the documents; the arithmetic is in the same file as the `Spec`."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, auto, unique
from typing import NamedTuple

from stream_app.features.declarations import Feature
from stream_app.features.state.state_schema import Need


@unique
class AggregationCode(IntEnum):
    """Numbers of the aggregations in the switch of fold.py, one for each name of `declarations.Aggregation`.

    They live in memory only: neither stored state nor the catalogue's hash contains them.
    """

    COUNT = auto()
    SUM = auto()
    MEAN = auto()
    MIN = auto()
    MAX = auto()
    STD = auto()
    ZSCORE = auto()
    RATE = auto()
    RATIO = auto()
    TREND = auto()
    DECAYED = auto()
    GAP_MEAN = auto()
    DISTINCT = auto()
    RECENCY = auto()
    AGE = auto()
    LAST = auto()
    CHANGED = auto()
    SHARE = auto()
    TOP_SHARE = auto()
    RANK = auto()
    GAP_STD = auto()
    GAP_MIN = auto()
    SESSION_SUM = auto()
    SESSION_RATE = auto()
    SESSION_LENGTH = auto()
    OWN = auto()


class Spec(NamedTuple):
    """One aggregation.

    code: its case in fold.py's switch; the code's name in lower case is the aggregation's name. needs: the parts of the state
    that a feature reads, at most three; the switch gets their places as operands a, b, c. formula: the computation, for people.
    """

    code: AggregationCode
    needs: Callable[[Feature], tuple[Need, ...]]
    formula: Callable[[Feature], str]


def measure_and_per(feature: Feature) -> tuple[Need, ...]:
    """Return two sums over the feature's window: of `measure`, and of `per`."""
    return Need(feature.window, "sum", feature.measure), Need(feature.window, "sum", feature.per)


def no_state(_: Feature) -> tuple[Need, ...]:
    """Return nothing, for aggregations that read no cell of their own."""
    return ()
