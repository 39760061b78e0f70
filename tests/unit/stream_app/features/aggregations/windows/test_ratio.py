"""ratio."""

from __future__ import annotations

from hypothesis import given

from stream_app.events import Event
from tests.unit.stream_app.features.aggregations.laws import check_agreement, check_monoid, checked, declared, single, visits
from tests.unit.stream_app.features.aggregations.windows.test_sum import order, view
from tests.unit.stream_app.features.cases import NOON

CATALOGUE = declared("ratio", {"measure": "spend", "per": "orders"}, {"measure": "price", "per": "events"})


@checked
@given(log=visits())
def test_ratios_are_the_oracles(log: list[Event]) -> None:
    check_agreement(CATALOGUE, log)


@checked
@given(a=visits(8), b=visits(8), c=visits(8))
def test_ratios_merge_as_a_monoid(a: list[Event], b: list[Event], c: list[Event]) -> None:
    check_monoid(CATALOGUE, (a, b, c), idempotent=False)


def test_an_order_without_a_past_is_as_usual_and_one_after_is_compared() -> None:
    log: list[Event] = [view(NOON), order(NOON + 1, 10.0), order(NOON + 2, 30.0), view(NOON + 3), order(NOON + 4, 10.0)]
    actual = single("ratio", log, measure="spend", per="orders", window="30d", default=1.0)
    assert actual == [0.0, 1.0, 3.0, 0.0, 0.5]
