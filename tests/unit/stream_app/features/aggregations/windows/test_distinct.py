"""distinct: exact while small, a sketch above, the same whatever the order, the batches and the groups."""

from __future__ import annotations

import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.events import Click, Event
from stream_app.features.declarations import Catalogue, EntityKind
from tests.unit.stream_app.features.aggregations.laws import (
    check_agreement,
    check_monoid,
    checked,
    declared,
    device_state,
    values,
    visits,
)
from tests.unit.stream_app.features.cases import ALL_ORDERS_MS, NOON, engine_of
from tests.unit.stream_app.features.catalogue_for_tests import DAY, KINDS, MEASURES, WINDOWS, feature

CATALOGUE = declared(
    "distinct", {"measure": "item", "words": 1}, {"measure": "category", "words": 2}, {"measure": "user", "words": 16}
)
PLAIN = EntityKind("user", "m", shared=False, ttl_ms=90 * DAY)  # no sequence: the same id again is not noticed


def click(at: int, item: int, user: str = "u") -> Click:
    return Click(event_id="e", user=user, event_time_ms=at, action="view", item=f"i{item}", device="d")


def items_seen(words: int, log: list[Event], window: str = "1d", size: int = 20_000) -> list[float]:
    counted = feature("f", "user", "distinct", measure="item", window=window, words=words)
    return values(Catalogue((PLAIN,), WINDOWS, MEASURES, (counted,)), log, size)["f"]


@st.composite
def crowds(draw: st.DrawFn) -> list[Event]:
    """Many items and users of one device in few tiles: lists fill up, and become sketches."""
    drawn = st.tuples(st.integers(0, 60), st.sampled_from([0, 1, 59_999, 60_000, 600_000, 3_600_000]), st.integers(0, 9))
    return [
        msgspec.structs.replace(click(NOON + at, item, f"u{user}"), event_id=f"e{number}")
        for number, (item, at, user) in enumerate(draw(st.lists(drawn, max_size=120)))
    ]


@checked
@given(log=visits())
def test_distinct_counts_are_the_oracles(log: list[Event]) -> None:
    check_agreement(CATALOGUE, log)


@checked
@given(log=crowds())
def test_distinct_counts_of_crowds_are_the_oracles(log: list[Event]) -> None:
    check_agreement(CATALOGUE, log)


@checked
@given(a=crowds(), b=crowds(), c=crowds())
def test_sets_merge_as_a_monoid_and_idempotently(a: list[Event], b: list[Event], c: list[Event]) -> None:
    check_monoid(CATALOGUE, (a, b, c), idempotent=True)


@pytest.mark.parametrize("words", [1, 2, 3, 16])
def test_a_tile_counts_exactly_up_to_its_words(words: int) -> None:
    log: list[Event] = [click(NOON + n, n % words) for n in range(3 * words + 1)]
    assert items_seen(words, log, size=5) == [min(n, words) for n in range(3 * words + 1)]


def test_a_window_of_exact_tiles_counts_exactly_up_to_32() -> None:
    hours = [click(NOON + 3_600_000 * (n // 8), n) for n in range(33)]  # 8 items an hour
    assert items_seen(16, [*hours, click(NOON + 4 * 3_600_000 + 9, 0)])[:33] == list(range(33))


@pytest.mark.parametrize("words", [2, 4, 16])
@pytest.mark.parametrize("many", [1_000, 10_000, 100_000])
def test_a_sketch_is_within_four_standard_errors(words: int, many: int) -> None:
    error = 1.04 / math.sqrt(16 * words - 1)
    numbers = random.Random(f"{words} {many}").sample(range(10**9), many)
    log: list[Event] = [click(NOON + n % 3_600_000, number) for n, number in enumerate(numbers)]
    actual = items_seen(words, [*log, click(NOON, 0)])
    for n in (many // 10, many // 2, many):
        assert abs(actual[n] - n) <= 4 * error * n, (n, actual[n])


def test_the_standard_error_is_as_documented() -> None:
    # 40 runs: the root of the mean square is within a third of 1.04 / sqrt(registers); a biased sketch would be far off.
    words, many, errors = 4, 3_000, list[float]()
    for seed in range(40):
        numbers = random.Random(seed).sample(range(10**9), many)
        errors.append(items_seen(words, [*(click(NOON, number) for number in numbers), click(NOON, 0)])[-1] / many - 1)
    stated = 1.04 / math.sqrt(16 * words - 1)
    assert math.sqrt(sum(e * e for e in errors) / len(errors)) == pytest.approx(stated, rel=0.33)
    assert abs(sum(errors) / len(errors)) <= 3 * stated / math.sqrt(len(errors))


def test_a_device_with_a_hundred_thousand_users_stays_within_its_bytes() -> None:
    counted = feature("f", "device", "distinct", measure="item", window="1d", words=4)
    catalogue = Catalogue((PLAIN, KINDS[2]), WINDOWS, MEASURES, (counted,))
    engine = engine_of(catalogue, ALL_ORDERS_MS)
    few: list[Event] = [click(NOON, n) for n in range(3)]
    many: list[Event] = [click(NOON, n) for n in range(2_000)]
    assert len(device_state(engine, few)) <= 60
    assert len(device_state(engine, many)) <= 70  # one tile's sketch: 4 words of at most 10 bytes, and the head
