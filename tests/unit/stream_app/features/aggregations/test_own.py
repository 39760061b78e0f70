"""own: every number that an event has, in its unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.events import Click, Event, Order, OrderLine, Search
from stream_app.features.declarations import EVENT
from tests.unit.stream_app.features.aggregations.laws import checked, values
from tests.unit.stream_app.features.agreement import run_both
from tests.unit.stream_app.features.cases import ALL_ORDERS_MS, NOON, logs
from tests.unit.stream_app.features.catalogue_for_tests import KINDS, MEASURES, catalogue_of, feature

NUMBERS = [m.name for m in MEASURES if m.is_number]
CATALOGUE = catalogue_of(
    *(feature(f"own_{name}", EVENT, "own", measure=name) for name in NUMBERS),
    kinds=KINDS[:1],
)


@checked
@given(log=logs(), size=st.sampled_from([1, 7, 40]))
def test_own_values_are_the_oracles_for_late_events_and_duplicates_too(log: list[Event], size: int) -> None:
    run_both(CATALOGUE, log, size=size, groups=2, lateness_ms=0)
    run_both(CATALOGUE, log, size=size, lateness_ms=ALL_ORDERS_MS)


def test_own_values_are_in_their_unit() -> None:
    lines = [OrderLine(item="i", quantity=2, unit_price=9.99), OrderLine(item="j")]
    log: list[Event] = [
        Search(event_id="s", user="u", event_time_ms=NOON, query="  Red   SHOES ", items_shown=["i", "j"]),
        Click(event_id="c", user="u", event_time_ms=NOON, action="click", item="i", price=0.29, position=4, dwell_ms=1_500),
        Order(event_id="o", user="u", event_time_ms=NOON, lines=lines, amount=21.98, currency="EUR",
              billing_country="DE", shipping_country="FR", ip_country="DE"),
    ]  # fmt: skip
    actual = values(CATALOGUE, log)
    for name, expected in {
        "events": [1, 1, 1], "searches": [1, 0, 0], "clicks": [0, 1, 0], "orders": [0, 0, 1], "spend": [0, 0, 21.98],
        "price": [0, 0.29, 9.99], "click_price": [0, 0.29, 0], "dwell": [0, 1.5, 0], "position": [0, 4, 0],
        "quantity": [0, 0, 3], "lines": [0, 0, 2], "shown": [2, 0, 0], "query_length": [9, 0, 0], "night": [1, 1, 1],
        "foreign": [0, 0, 1],
    }.items():  # fmt: skip
        assert actual[f"own_{name}"] == pytest.approx(expected), name
