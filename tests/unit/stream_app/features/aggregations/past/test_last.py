"""last and changed."""

from __future__ import annotations

from hypothesis import given

from stream_app.events import Click, Event
from tests.unit.stream_app.features.aggregations.laws import (
    check_agreement,
    check_monoid,
    checked,
    declared,
    renamed,
    single,
    visits,
)
from tests.unit.stream_app.features.aggregations.windows.test_sum import order, view
from tests.unit.stream_app.features.cases import NOON

LAST = declared("last", {"measure": "spend"}, {"measure": "dwell"}, windows=False)
CHANGED = declared("changed", {"measure": "item"}, {"measure": "network"}, {"measure": "spend"}, windows=False)


@checked
@given(log=visits())
def test_last_and_changed_are_the_oracles(log: list[Event]) -> None:
    check_agreement(LAST, log)
    check_agreement(CHANGED, log)


@checked
@given(a=visits(8), b=visits(8), c=visits(8))
def test_they_merge_as_a_monoid_and_idempotently(a: list[Event], b: list[Event], c: list[Event]) -> None:
    check_monoid(LAST, (a, b, c), idempotent=True)
    check_monoid(CHANGED, (a, b, c), idempotent=True)


def test_the_last_value_is_the_newest_of_several_at_one_time_the_largest() -> None:
    log: list[Event] = [
        order(NOON + 5, 2.0),
        order(NOON, 9.0),
        view(NOON + 6),
        order(NOON + 5, 3.0),
        order(NOON + 5, 1.0),
        view(NOON + 7),
    ]
    log = [renamed(event, f"e{n}") for n, event in enumerate(log)]
    assert single("last", log, measure="spend") == [-1.0, 2.0, 2.0, 2.0, 3.0, 3.0]


def test_changed_compares_with_the_last_and_needs_both() -> None:
    def at(n: int, device: str) -> Click:
        return Click(event_id=f"e{n}", user="u", event_time_ms=NOON + n, action="view", item="i", device=device)

    log: list[Event] = [at(n, device) for n, device in enumerate(["", "a", "a", "", "b", "a"])]
    assert single("changed", log, measure="device") == [-1.0, -1.0, 0.0, -1.0, 1.0, 1.0]
