"""mean."""

from __future__ import annotations

import pytest
from hypothesis import given

from stream_app.events import Event
from tests.unit.stream_app.features.aggregations.laws import check_agreement, check_monoid, checked, declared, single, visits
from tests.unit.stream_app.features.aggregations.windows.test_sum import order, view
from tests.unit.stream_app.features.cases import NOON

CATALOGUE = declared("mean", {"measure": "spend", "per": "orders"}, {"measure": "position", "per": "clicks"})


@checked
@given(log=visits())
def test_means_are_the_oracles(log: list[Event]) -> None:
    check_agreement(CATALOGUE, log)


@checked
@given(a=visits(8), b=visits(8), c=visits(8))
def test_means_merge_as_a_monoid(a: list[Event], b: list[Event], c: list[Event]) -> None:
    check_monoid(CATALOGUE, (a, b, c), idempotent=False)


def test_a_mean_is_over_events_that_have_the_measure_and_the_default_without_any() -> None:
    log: list[Event] = [view(NOON), order(NOON + 1, 10.0), order(NOON + 2, 0.0), order(NOON + 3, 0.05), view(NOON + 4)]
    expected = [-1.0, -1.0, 10.0, 5.0, 10.05 / 3]
    assert single("mean", log, measure="spend", per="orders", window="1d") == pytest.approx(expected)
