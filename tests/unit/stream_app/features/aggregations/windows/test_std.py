"""std and zscore."""

from __future__ import annotations

import math
import random
from statistics import pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.events import Event
from tests.unit.stream_app.features.aggregations.laws import check_agreement, check_monoid, checked, declared, single, visits
from tests.unit.stream_app.features.aggregations.windows.test_sum import order, view
from tests.unit.stream_app.features.cases import NOON

PAIRS = {"measure": "spend", "per": "orders"}, {"measure": "dwell", "per": "clicks"}
BOTH = {"std": declared("std", *PAIRS), "zscore": declared("zscore", *PAIRS)}
both = pytest.mark.parametrize("how", BOTH)
WORDS = {"measure": "spend", "per": "orders", "window": "1d"}


@both
@checked
@given(log=visits())
def test_deviations_are_the_oracles(how: str, log: list[Event]) -> None:
    check_agreement(BOTH[how], log)


@both
@checked
@given(a=visits(8), b=visits(8), c=visits(8))
def test_deviations_merge_as_a_monoid(how: str, a: list[Event], b: list[Event], c: list[Event]) -> None:
    check_monoid(BOTH[how], (a, b, c), idempotent=False)


@checked
@given(cents=st.lists(st.integers(0, 10_000_000), min_size=2, max_size=30))
def test_a_deviation_is_off_by_at_most_12_cents_up_to_100_000(cents: list[int]) -> None:
    log: list[Event] = [order(NOON + n, value / 100) for n, value in enumerate([*cents, 0])]
    assert abs(single("std", log, **WORDS)[-1] - pstdev(cents) / 100) <= 0.12 + 1e-7 * pstdev(cents)


def test_deviations_of_many_amounts_agree_with_the_statistics_module() -> None:
    seeded = random.Random(5)
    cents = [round(seeded.lognormvariate(8, 1)) for _ in range(500)]
    log: list[Event] = [order(NOON + n, value / 100) for n, value in enumerate([*cents, 0])]
    assert single("std", log, **WORDS)[-1] == pytest.approx(pstdev(cents) / 100, rel=1e-3)
    z = (cents[-1] - sum(cents[:-1]) / 499) / pstdev(cents[:-1])
    assert single("zscore", log[:-1], **WORDS)[-1] == pytest.approx(z, rel=1e-3)


def test_a_deviation_needs_two_orders_and_a_score_a_deviation_and_an_amount_of_its_own() -> None:
    log: list[Event] = [order(NOON, 10.0), order(NOON + 1, 10.0), order(NOON + 2, 12.0), view(NOON + 3), order(NOON + 4, 15.0)]
    std = single("std", log, **WORDS)
    assert std[:2] == [-1.0, -1.0]
    assert std[2] == pytest.approx(0.0, abs=0.12)
    assert std[3] == pytest.approx(math.sqrt(8) / 3, abs=0.12)
    scores = single("zscore", log, **WORDS)
    assert scores[:2] == [-1.0, -1.0]
    assert scores[3] == -1.0
    assert scores[4] == pytest.approx((15 - 32 / 3) / (math.sqrt(8) / 3), rel=0.02)


def test_one_huge_order_counts_as_100_000_and_does_not_switch_the_score_off() -> None:
    usual: list[Event] = [order(NOON + n, 10.0 + n % 2) for n in range(9)]
    log = [*usual, order(NOON + 9, 5e8), order(NOON + 10, 1e9), view(NOON + 11)]
    assert single("zscore", log, **WORDS)[9] > 100.0
    cents = [1_000 + 100 * (n % 2) for n in range(9)] + [10_000_000]
    assert single("std", log, **WORDS)[10] == pytest.approx(pstdev(cents) / 100, rel=1e-4)
    assert single("zscore", log, **WORDS)[10] == pytest.approx((10_000_000 - sum(cents) / 10) / pstdev(cents), rel=1e-4)
