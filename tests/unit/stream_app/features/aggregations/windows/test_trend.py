"""trend."""

from __future__ import annotations

import pytest
from hypothesis import given

from stream_app.events import Event
from tests.unit.stream_app.features.aggregations.laws import check_agreement, check_monoid, checked, declared, single, visits
from tests.unit.stream_app.features.aggregations.windows.test_sum import view
from tests.unit.stream_app.features.cases import NOON

CATALOGUE = declared("trend", {"measure": "events", "base": "7d"}, {"measure": "spend", "base": "1h"})


@checked
@given(log=visits())
def test_trends_are_the_oracles(log: list[Event]) -> None:
    check_agreement(CATALOGUE, log)


@checked
@given(a=visits(8), b=visits(8), c=visits(8))
def test_trends_merge_as_a_monoid(a: list[Event], b: list[Event], c: list[Event]) -> None:
    check_monoid(CATALOGUE, (a, b, c), idempotent=False)


def test_a_trend_is_1_at_an_even_pace_and_the_lengths_ratio_when_all_is_new() -> None:
    minute = 60_000
    steady: list[Event] = [view(NOON + n * minute) for n in range(121)]
    # 60 events of the last hour, and the tile that the hour begins in: 05 minutes more at most
    assert single("trend", steady, measure="events", window="10m", base="1h")[120] == pytest.approx(
        (11 / 10) / (65 / 60), rel=0.1
    )
    assert single("trend", steady[:2], measure="events", window="10m", base="1h") == [-1.0, 6.0]
