"""min and max."""

from __future__ import annotations

import pytest
from hypothesis import given

from stream_app.events import Event
from stream_app.features.declarations import Aggregation
from tests.unit.stream_app.features.aggregations.laws import check_agreement, check_monoid, checked, declared, single, visits
from tests.unit.stream_app.features.aggregations.windows.test_sum import order, view
from tests.unit.stream_app.features.cases import NOON

MEASURES = {"measure": "spend"}, {"measure": "dwell"}, {"measure": "hour"}
BOTH = {"min": declared("min", *MEASURES[:2]), "max": declared("max", *MEASURES[:2])}
both = pytest.mark.parametrize("how", BOTH)


@both
@checked
@given(log=visits())
def test_extremes_are_the_oracles(how: str, log: list[Event]) -> None:
    check_agreement(BOTH[how], log)


@both
@checked
@given(a=visits(8), b=visits(8), c=visits(8))
def test_extremes_merge_as_a_monoid(how: str, a: list[Event], b: list[Event], c: list[Event]) -> None:
    check_monoid(BOTH[how], (a, b, c), idempotent=True)


@pytest.mark.parametrize(("how", "expected"), [("min", [-1, 5, 3, 3, 3, 9]), ("max", [-1, 5, 5, 9, 9, 9])])
def test_an_extreme_leaves_with_its_tile_and_zero_is_no_value(how: Aggregation, expected: list[float]) -> None:
    first: list[Event] = [order(NOON, 5.0), order(NOON + 1, 3.0), order(NOON + 90_000, 9.0), order(NOON + 90_001, 0.0)]
    log = [*first, view(NOON + 600_000), view(NOON + 690_000)]
    assert single(how, log, measure="spend", window="10m") == expected
