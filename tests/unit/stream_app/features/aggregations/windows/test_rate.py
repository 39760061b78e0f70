"""rate."""

from __future__ import annotations

import pytest
from hypothesis import given

from stream_app.events import Click, Event
from tests.unit.stream_app.features.aggregations.laws import check_agreement, check_monoid, checked, declared, single, visits
from tests.unit.stream_app.features.cases import NOON

_PRIOR = {"prior": (1.0, 20.0), "default": 0.05}
CATALOGUE = declared("rate", {"measure": "carts", "per": "clicks", **_PRIOR}, {"measure": "spend", "per": "events", **_PRIOR})


@checked
@given(log=visits())
def test_rates_are_the_oracles(log: list[Event]) -> None:
    check_agreement(CATALOGUE, log)


@checked
@given(a=visits(8), b=visits(8), c=visits(8))
def test_rates_merge_as_a_monoid(a: list[Event], b: list[Event], c: list[Event]) -> None:
    check_monoid(CATALOGUE, (a, b, c), idempotent=False)


def test_a_rate_begins_at_its_prior_and_follows_the_events() -> None:
    actions = ["view", "cart", "view", "cart"]
    log: list[Event] = [
        Click(event_id=f"e{n}", user="u", event_time_ms=NOON + n, action=action, item="i")  # type: ignore[arg-type]
        for n, action in enumerate(actions)
    ]
    actual = single("rate", log, measure="carts", per="events", window="1h", **_PRIOR)
    assert actual == pytest.approx([1 / 20, 1 / 21, 2 / 22, 2 / 23])
