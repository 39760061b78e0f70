"""The events that a window covers, stated without slots; and the effect of a wrong clock."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.codec.decode import Decoder
from stream_app.config import FeaturesSettings
from stream_app.decision.rules import SHIPPED_RULES, RuleSet
from stream_app.errors import InvalidEventError
from stream_app.events import Click, Order, OrderLine
from stream_app.features.catalog import CATALOGUE
from stream_app.features.declarations import MAX_SLOTS, Catalogue, Window
from tests.unit.stream_app.features.cases import ALL_ORDERS_MS, EDGES, LATENESS_MS, NOON, new_run
from tests.unit.stream_app.features.catalogue_for_tests import EVERYTHING, KINDS, MEASURES, feature

SKEW_MS = FeaturesSettings().future_skew_ms
WINDOWS = {f"{what} {w.name}": w for what, of in (("shipped", CATALOGUE), ("tested", EVERYTHING)) for w in of.windows}


def counting(window: Window) -> Catalogue:
    """How many events a user and a device had in one window."""
    features = [
        feature(f"{entity}_count", entity, "count", measure="events", window=window.name) for entity in ("user", "device")
    ]
    return Catalogue(KINDS, (window,), MEASURES, tuple(features))


def view(at: int, event_id: str) -> Click:
    return Click(event_id=event_id, user="ann", event_time_ms=at, action="view", item="i", device="d", ip="10.0.0.1")


@st.composite
def times(draw: st.DrawFn, window: Window) -> list[int]:
    """Event times in order of arrival, each at most `spare_tiles` tiles behind the newest before it."""
    tile, actual = window.tile_ms, [NOON + draw(st.sampled_from([0, 1, -1]))]
    near = st.sampled_from([-1, 0, 1, *EDGES])
    for _ in range(draw(st.integers(0, 30))):
        newest = max(actual)
        first = (newest // tile - window.spare_tiles) * tile
        ahead = newest + draw(st.sampled_from([0, tile, window.length_ms, window.length_ms + tile * window.slots]))
        at = draw(st.one_of(st.integers(first, ahead), st.integers(first, newest), st.just(newest + draw(near))))
        edge = draw(st.sampled_from([None, None, 0, -1, 1]))
        actual.append(max(first, at if edge is None else at // tile * tile + edge))
    return actual


@pytest.mark.parametrize("which", WINDOWS)
@settings(deadline=None, max_examples=25)
@given(data=st.data(), size=st.sampled_from([1, 7, 40]))
def test_a_count_lies_between_the_window_and_the_window_rounded_out_to_tiles(which: str, data: st.DataObject, size: int) -> None:
    window = WINDOWS[which]
    log = data.draw(times(window))
    run = new_run(catalogue=counting(window), lateness_ms=ALL_ORDERS_MS)
    results = run.batches([view(at, f"e{n}") for n, at in enumerate(log)], size)
    counts = [row for result in results for row in result.dense.tolist()]
    for n, t in enumerate(log):
        start, tile = t - window.length_ms, window.tile_ms
        least = sum(start <= at < t for at in log[:n])
        most = sum(start // tile * tile <= at < (t // tile + 1) * tile for at in log[:n])
        for count in counts[n]:
            assert least <= count <= most, (window.name, t, log[:n])


# --- one wrong clock ------------------------------------------------------------------------------------------------------------


def test_windows_stay_whole_behind_an_event_that_is_as_far_ahead_as_is_accepted() -> None:
    for window in CATALOGUE.windows:
        assert window.spare_tiles * window.tile_ms >= SKEW_MS, window.name


def test_no_more_than_the_setting_is_accepted() -> None:
    decoder, value = Decoder(future_skew_ms=SKEW_MS), msgspec.json.encode(view(NOON + SKEW_MS, "p"))
    assert decoder.decode("clicks", b"ann", value, NOON).event_time_ms == NOON + SKEW_MS
    with pytest.raises(InvalidEventError):
        decoder.decode("clicks", b"ann", value, NOON - 1)


def orders_of_a_card_tester(start_ms: int, ahead_ms: int | None, before: int) -> tuple[dict[str, float], bool]:
    """Twelve orders with twelve cards in ten minutes: what the last one reads of orders, and whether the rule fires on it.

    Before order number `before` comes an event that is `ahead_ms` ahead.
    """
    run = new_run(lateness_ms=LATENESS_MS)
    who: dict[str, Any] = {"user": "ann", "device": "d", "ip": "10.0.0.1", "amount": 5.0, "currency": "EUR"}
    for n in range(12):
        at = start_ms + n * 50_000
        if ahead_ms is not None and n == before:
            run.batch([view(at + ahead_ms, "ahead")])
        order = Order(**who, event_id=f"o{n}", event_time_ms=at, payment_instrument=f"c{n}", lines=[OrderLine(item="i")])
        result = run.batch([order])
    assert not result.late.any()
    names, of_orders = run.engine.feature_names, {"orders", "spend", "instrument"}
    fired = RuleSet(SHIPPED_RULES, names).fired(result.dense, result.context[:, 0])
    kept = {f.name for f in CATALOGUE.features if f.measure in of_orders and f.aggregation in ("count", "sum", "distinct")}
    return {name: value for name, value in zip(names, result.dense[0].tolist(), strict=True) if name in kept}, bool(fired.any())


@pytest.mark.parametrize("before", [0, 5, 11])
@pytest.mark.parametrize("off_ms", [0, 1, 9_999, 59_999, 299_999, 1_234_567])
def test_one_event_from_the_future_hides_no_order_and_keeps_no_rule_quiet(off_ms: int, before: int) -> None:
    clean, fires = orders_of_a_card_tester(NOON + off_ms, None, 0)
    assert fires
    actual, fires = orders_of_a_card_tester(NOON + off_ms, SKEW_MS, before)
    assert (actual["user_orders_1h"], actual["user_orders_10m"]) == (11.0, 11.0)
    assert actual == clean
    assert fires


def test_far_from_the_truth_windows_are_not_whole_which_is_why_the_setting_is_small() -> None:
    clean, _ = orders_of_a_card_tester(NOON, None, 0)
    actual, fires = orders_of_a_card_tester(NOON, 23 * 3_600_000, 0)
    assert (actual["user_orders_1h"], clean["user_orders_1h"], fires) == (0.0, 11.0, False)


def test_the_shipped_windows_fit_the_word_of_bits() -> None:
    assert max(w.slots for w in CATALOGUE.windows) <= MAX_SLOTS
