"""recency and age."""

from __future__ import annotations

from hypothesis import given

from stream_app.events import Event
from tests.unit.stream_app.features.aggregations.laws import check_agreement, check_monoid, checked, declared, single, visits
from tests.unit.stream_app.features.aggregations.windows.test_sum import order, view
from tests.unit.stream_app.features.cases import NOON

RECENCY = declared("recency", {}, {"measure": "orders"}, {"measure": "item"}, windows=False)
AGE = declared("age", windows=False)


@checked
@given(log=visits())
def test_recency_and_age_are_the_oracles(log: list[Event]) -> None:
    check_agreement(RECENCY, log)
    check_agreement(AGE, log)


@checked
@given(a=visits(8), b=visits(8), c=visits(8))
def test_they_merge_as_a_monoid_and_idempotently(a: list[Event], b: list[Event], c: list[Event]) -> None:
    check_monoid(RECENCY, (a, b, c), idempotent=True)
    check_monoid(AGE, (a, b, c), idempotent=True)


def test_recency_is_since_the_newest_and_age_since_the_first_in_any_order() -> None:
    log: list[Event] = [view(NOON + 5_000), order(NOON + 1_000, 1.0), view(NOON + 9_500), view(NOON + 2_000)]
    assert single("recency", log) == [-1.0, 0.0, 4.5, 0.0]
    assert single("recency", log, measure="orders") == [-1.0, -1.0, 8.5, 1.0]
    assert single("age", log) == [-1.0, 0.0, 8.5, 1.0]
