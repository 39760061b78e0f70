"""session_sum, session_rate and session_length."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.events import Click, Event
from stream_app.features.declarations import Catalogue
from tests.unit.stream_app.features.aggregations.laws import check_agreement, checked, declared, single, values, visits
from tests.unit.stream_app.features.agreement import run_both
from tests.unit.stream_app.features.cases import ALL_ORDERS_MS, NOON, logs
from tests.unit.stream_app.features.catalogue_for_tests import GAP, KINDS, MINUTE, catalogue_of, feature

_RATE = {"measure": "carts", "per": "clicks", "prior": (1.0, 20.0)}
ALL = {
    "session_sum": declared("session_sum", {"measure": "events"}, {"measure": "spend"}, windows=False, entities=("user",)),
    "session_rate": declared("session_rate", _RATE, windows=False, entities=("user",)),
    "session_length": declared("session_length", windows=False, entities=("user",)),
}
all_three = pytest.mark.parametrize("how", ALL)


def view(at: int) -> Click:
    return Click(event_id=f"v{at}", user="u", event_time_ms=NOON + at, action="view", item="i")


@all_three
@checked
@given(log=visits(40))
def test_sessions_are_the_oracles(how: str, log: list[Event]) -> None:
    check_agreement(ALL[how], log)


@checked
@given(gaps=st.lists(st.sampled_from([0, 1, MINUTE, GAP - 1, GAP, GAP + 1, 5 * GAP]), min_size=1, max_size=30))
def test_in_order_a_session_is_the_longest_run_without_a_silence(gaps: list[int]) -> None:
    times = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    log: list[Event] = [replace_id(view(at), n) for n, at in enumerate(times)]
    sums, lengths = single("session_sum", log, measure="events"), single("session_length", log)
    for n, at in enumerate(times):
        start = n
        while start > 0 and times[start] - times[start - 1] <= GAP:
            start -= 1
        assert sums[n] == (n - start if start < n else -1.0)
        assert lengths[n] == pytest.approx((at - times[start]) / 1000 if start < n else -1.0)


def replace_id(event: Click, number: int) -> Click:
    return Click(event_id=f"e{number}", user=event.user, event_time_ms=event.event_time_ms, action="view", item="i")


@checked
@given(log=logs(), size=st.sampled_from([1, 7, 40]))
def test_sessions_of_a_session_id_belong_to_one_user(log: list[Event], size: int) -> None:
    kinds = (replace(KINDS[0], session_gap_ms=0), KINDS[1])
    features = [
        feature("a", "session", "session_sum", measure="events"),
        feature("b", "session", "session_length"),
    ]
    run_both(catalogue_of(*features, kinds=kinds), log, size=size, groups=2, lateness_ms=ALL_ORDERS_MS)


def test_a_session_ends_after_more_than_the_gap_of_silence() -> None:
    log: list[Event] = [view(at) for at in (0, GAP, 2 * GAP, 3 * GAP + 1, 3 * GAP + 2)]
    assert single("session_sum", log, measure="events") == [-1.0, 1.0, 2.0, -1.0, 1.0]
    assert single("session_length", log) == pytest.approx([-1.0, GAP / 1000, 2 * GAP / 1000, -1.0, 0.001])


def test_an_event_from_before_the_sessions_reach_does_not_count_in_it() -> None:
    log: list[Event] = [view(at) for at in (10 * GAP, 9 * GAP, 8 * GAP - 1, 10 * GAP + 1)]
    #                                         new      in reach  before it   sees the first two
    assert single("session_sum", log, measure="events") == [-1.0, 1.0, -1.0, 2.0]


def test_a_rate_in_the_session_has_its_prior() -> None:
    catalogue: Catalogue = ALL["session_rate"]
    log: list[Event] = [
        Click(event_id=f"e{n}", user="u", event_time_ms=NOON + n, action=action, item="i")  # type: ignore[arg-type]
        for n, action in enumerate(["view", "cart", "cart"])
    ]
    (actual,) = values(catalogue, log).values()
    assert actual == pytest.approx([-1.0, 1 / 21, 2 / 22])
