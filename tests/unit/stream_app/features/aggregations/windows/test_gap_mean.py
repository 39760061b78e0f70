"""gap_mean over windows; gap_std and gap_min over the last interactions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given

from stream_app.events import Event
from stream_app.features.declarations import Catalogue
from tests.unit.stream_app.features.aggregations.laws import check_agreement, check_monoid, checked, declared, single, visits
from tests.unit.stream_app.features.aggregations.windows.test_sum import order, view
from tests.unit.stream_app.features.cases import NOON

MEANS = declared("gap_mean", {"measure": "events"}, {"measure": "orders"})
OF_SEQUENCE: dict[str, Catalogue] = {
    "gap_std": declared("gap_std", windows=False, entities=("user",)),
    "gap_min": declared("gap_min", windows=False, entities=("user",)),
}


@checked
@given(log=visits())
def test_mean_gaps_are_the_oracles(log: list[Event]) -> None:
    check_agreement(MEANS, log)


@checked
@given(a=visits(8), b=visits(8), c=visits(8))
def test_mean_gaps_merge_as_a_monoid(a: list[Event], b: list[Event], c: list[Event]) -> None:
    check_monoid(MEANS, (a, b, c), idempotent=False)


@pytest.mark.parametrize("how", OF_SEQUENCE)
@checked
@given(log=visits(60))
def test_gaps_of_the_sequence_are_the_oracles(how: str, log: list[Event]) -> None:
    check_agreement(OF_SEQUENCE[how], log)


def test_a_mean_gap_is_between_the_first_and_the_last_of_the_window() -> None:
    log: list[Event] = [view(NOON), order(NOON + 10_000, 1.0), order(NOON + 25_000, 1.0), view(NOON + 26_000)]
    assert single("gap_mean", log, measure="events", window="1m") == [-1.0, -1.0, 10.0, 12.5]
    assert single("gap_mean", log, measure="orders", window="1m") == [-1.0, -1.0, -1.0, 15.0]


def test_gaps_of_the_sequence_are_between_neighbours_in_order_of_arrival() -> None:
    log: list[Event] = [view(NOON + at) for at in (0, 10_000, 4_000, 4_000_000, 5_000_000)]
    assert single("gap_min", log) == [-1.0, -1.0, 10.0, 6.0, 6.0]
    assert single("gap_std", log)[:4] == [-1.0, -1.0, -1.0, 2.0]
    mean = (10 + 6 + 3_996) / 3
    expected = math.sqrt(sum((gap - mean) ** 2 for gap in (10, 6, 3_996)) / 3)
    assert single("gap_std", log)[4] == pytest.approx(expected)
