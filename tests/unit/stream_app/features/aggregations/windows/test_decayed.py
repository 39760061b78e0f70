"""decayed."""

from __future__ import annotations

from hypothesis import given

from stream_app.events import Event
from tests.unit.stream_app.features.aggregations.laws import check_agreement, check_monoid, checked, declared, single, visits
from tests.unit.stream_app.features.aggregations.windows.test_sum import order, view
from tests.unit.stream_app.features.cases import NOON

_HOUR = 3_600_000
CATALOGUE = declared(
    "decayed",
    {"measure": "spend", "half_life_ms": 60_000},
    {"measure": "events", "half_life_ms": 7_001},
    {"measure": "events", "half_life_ms": 12 * _HOUR},
)


@checked
@given(log=visits())
def test_decayed_sums_are_the_oracles(log: list[Event]) -> None:
    check_agreement(CATALOGUE, log)


@checked
@given(a=visits(8), b=visits(8), c=visits(8))
def test_decayed_sums_merge_as_a_monoid(a: list[Event], b: list[Event], c: list[Event]) -> None:
    check_monoid(CATALOGUE, (a, b, c), idempotent=False)


def test_a_weight_halves_per_half_life_and_is_zero_beyond_12() -> None:
    log: list[Event] = [order(NOON, 100.0), *(view(NOON + n * _HOUR + 5) for n in (0, 1, 2, 12, 13, 14))]
    actual = single("decayed", log, measure="spend", window="1d", half_life_ms=_HOUR)
    assert actual == [-1.0, 100.0, 50.0, 25.0, 100.0 / 4096, 0.0, 0.0]


def test_a_shared_tile_has_one_weight() -> None:
    log: list[Event] = [order(NOON, 1.0), order(NOON + _HOUR - 1, 1.0), view(NOON + _HOUR)]
    assert single("decayed", log, measure="spend", window="1d", half_life_ms=_HOUR) == [-1.0, 1.0, 1.0]
