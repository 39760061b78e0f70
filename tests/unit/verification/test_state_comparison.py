"""Every way in which a store can be wrong is found, and counted once a key."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable

import pytest

from verification.arrival_order import session_after
from verification.oracle import Entity, OracleState, expected_states
from verification.oracle_values import RawEvent
from verification.state_comparison import compare_states

KEY = "a key for tests only"
States = dict[Entity, OracleState]


def events() -> list[RawEvent]:
    clicks = [RawEvent("clicks", "a", "view", 60_000 * i, device="d", item=f"i{i}", category=f"c{i}") for i in range(40)]
    orders = [RawEvent("orders", "b", "order", 90_000 * i, device="d", amount=1.5, instrument="p") for i in range(4)]
    searches = [RawEvent("searches", "c", "search", 90_000 * i, query=f"q{i}") for i in range(4)]
    return clicks + orders + searches


def expected() -> States:
    return expected_states(events(), {"a": 1, "b": 2, "c": 3}, KEY)


def stored() -> States:
    """What a right store holds: the oracle's own states, with sequences and sessions as a store keeps them."""
    states = copy.deepcopy(expected())
    for state in states.values():
        state.sequence = [entry for entries in state.arrivals.values() for entry in entries][-32:]
        state.commits = [n // 5 for n, _ in enumerate(state.sequence)]
        state.session = session_after((visit for visits in state.visits.values() for visit in visits), state)
        state.arrivals, state.visits = {}, {}
    return states


def user_of(states: States, group: int = 1) -> OracleState:
    return next(state for (of_group, kind, _), state in states.items() if (of_group, kind) == (group, "user"))


def test_a_right_store_has_no_difference() -> None:
    comparison = compare_states(expected(), stored())
    assert comparison.differences == 0
    kinds = Counter(kind for _, kind, _ in expected())
    assert kinds["user"] == 3
    assert kinds["device"] == 2  # two replicas of one device
    assert comparison.keys == sum(kinds.values())
    assert comparison.sequences == comparison.sequences_of_one_topic == 3
    assert comparison.sessions == comparison.sessions_of_known_order >= 3
    assert comparison.values > 50


def counted_twice(states: States) -> None:
    ring = user_of(states).rings["sum events/1h"]
    ring[max(ring)] += 1


def counter_lost(states: States) -> None:
    ring = user_of(states).rings["sum views/1h"]
    del ring[max(ring)]


def ring_lost(states: States) -> None:
    del user_of(states).rings["sum views/1h"]


def ring_of_another_window(states: States) -> None:
    user_of(states).rings["sum spend/1y"] = {0: 1}


def set_with_another_value(states: States) -> None:
    sets = user_of(states).sets
    ring = next(iter(sets.values()))
    ring[min(ring)] = ("values", (1, 2))


def set_lost(states: States) -> None:
    user_of(states).sets.popitem()


def last_value_older(states: States) -> None:
    lasts = user_of(states).lasts
    name, (time_ms, value) = next(iter(lasts.items()))
    lasts[name] = (time_ms - 1, value)


def histogram_of_one_more(states: States) -> None:
    histograms = user_of(states).histograms
    name, counts = next(iter(histograms.items()))
    histograms[name] = (counts[0] + 1, *counts[1:])


def session_longer(states: States) -> None:
    state = user_of(states)
    assert state.session is not None
    state.session = state.session._replace(start_ms=state.session.start_ms - 1)


def session_lost(states: States) -> None:
    user_of(states).session = None


def commits_fall(states: States) -> None:
    user_of(states).commits.reverse()


def query_missing(states: States) -> None:
    del user_of(states, 3).queries[0]


def newest_behind(states: States) -> None:
    user_of(states).newest_ms = 1


def first_wrong(states: States) -> None:
    user_of(states).first_ms = 1


def sequence_swapped(states: States) -> None:
    sequence = user_of(states).sequence
    sequence[3], sequence[4] = sequence[4], sequence[3]


def sequence_with_a_repeat(states: States) -> None:
    sequence = user_of(states).sequence
    sequence[:] = [*sequence[1:], sequence[-1]]


def key_missing(states: States) -> None:
    del states[next(iter(states))]


def key_extra(states: States) -> None:
    states[7, "user", "00" * 16] = OracleState(1, 1)


def replica_in_another_group(states: States) -> None:
    entity = next(entity for entity in states if entity[1] == "device")
    states[6, "device", entity[2]] = states[entity]


@pytest.mark.parametrize(
    "damage",
    [
        counted_twice,
        counter_lost,
        ring_lost,
        ring_of_another_window,
        set_with_another_value,
        set_lost,
        last_value_older,
        histogram_of_one_more,
        session_longer,
        session_lost,
        commits_fall,
        query_missing,
        newest_behind,
        first_wrong,
        sequence_swapped,
        sequence_with_a_repeat,
        key_missing,
        key_extra,
        replica_in_another_group,
    ],
)
def test_a_damage_is_one_difference(damage: Callable[[States], None]) -> None:
    states = stored()
    damage(states)
    comparison = compare_states(expected(), states)
    assert comparison.differences == 1
    assert len(comparison.examples) == 1
