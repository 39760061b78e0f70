"""count and sum."""

from __future__ import annotations

from hypothesis import given

from stream_app.events import Click, Event, Order, OrderLine
from tests.unit.stream_app.features.aggregations.laws import check_agreement, check_monoid, checked, declared, single, visits
from tests.unit.stream_app.features.cases import NOON

CATALOGUE = declared("sum", {"measure": "spend"}, {"measure": "events"}, {"measure": "dwell"})


def view(at: int) -> Click:
    return Click(event_id=f"v{at}", user="u", event_time_ms=at, action="view", item="i")


def order(at: int, amount: float) -> Order:
    return Order(event_id=f"o{at}", user="u", event_time_ms=at, lines=[OrderLine(item="i")], amount=amount, currency="EUR")


@checked
@given(log=visits())
def test_sums_are_the_oracles(log: list[Event]) -> None:
    check_agreement(CATALOGUE, log)


@checked
@given(a=visits(8), b=visits(8), c=visits(8))
def test_sums_merge_as_a_monoid(a: list[Event], b: list[Event], c: list[Event]) -> None:
    check_monoid(CATALOGUE, (a, b, c), idempotent=False)


def test_a_window_opens_at_its_tile_edge_and_closes_before_the_event_itself() -> None:
    #   10m window, tiles of 1m, read at 00:10:30
    #   00:00:00 [ tile 0 | tile 1 | ... | tile 10 | 00:10:30
    #   counted:  ^ whole, although the exact window begins at 00:00:30
    log: list[Event] = [view(NOON + at) for at in (-1, 0, 59_999, 630_000, 660_000 - 1, 660_000)]
    assert single("count", log, measure="events", window="10m") == [-1, 1, 2, 2, 3, 2]


def test_money_is_summed_in_cents() -> None:
    log: list[Event] = [order(NOON + n, 0.1) for n in range(11)]
    assert single("sum", log, measure="spend", window="1d")[10] == 1.0
    assert single("count", log, measure="orders", window="1d")[1:] == list(range(1, 11))


def test_an_event_out_of_order_is_added_to_its_tile_while_that_is_kept() -> None:
    # The 1m window keeps 8 tiles of 10 s: at 00:02:00 those from 00:00:50 on. What is read at 00:01:55 begins there, too.
    log: list[Event] = [view(NOON + at) for at in (120_000, 50_000, 49_999, 115_000)]
    assert single("count", log, measure="events", window="1m") == [-1, 0, 0, 1]
