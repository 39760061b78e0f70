"""Every way in which a store can be wrong is found, and counted once a key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from stream_app.events import Click, Event, Order, OrderLine, Search
from verification.oracle.replay import Entity, EntityLog, entity_logs
from verification.state_comparison import compare_states

KEY = "a key for tests only"
State = dict[str, Any]
States = dict[Entity, State]


def head(user: str, i: int, every_ms: int) -> dict[str, Any]:
    return {"event_id": f"e{i}", "user": user, "event_time_ms": every_ms * i}


def events() -> list[Event]:
    clicks = [Click(**head("a", i, 60_000), action="view", device="d", item=f"i{i}", category=f"c{i}") for i in range(40)]
    line = [OrderLine(item="i")]
    orders = [
        Order(**head("b", i, 90_000), device="d", lines=line, amount=1.5, currency="EUR", payment_instrument="p")
        for i in range(4)
    ]
    searches = [Search(**head("c", i, 90_000), query=f"q{i}") for i in range(4)]
    return [*clicks, *orders, *searches]


def expected() -> dict[Entity, EntityLog]:
    return entity_logs(events(), {"a": 1, "b": 2, "c": 3}, KEY)


def stored() -> States:
    """What a right store holds: the oracle's own states, with the numbers of commits."""
    states = {entity: log.kind.describe(log.events) for entity, log in expected().items()}
    for state in states.values():
        for n, entry in enumerate(state.get("sequence", ())):
            entry["commit"] = n // 5
    return states


def user_of(states: States, group: int = 1) -> State:
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
    ring = user_of(states)["tiles"]["sum events/1h"]
    ring[max(ring)] += 1


def counter_lost(states: States) -> None:
    ring = user_of(states)["tiles"]["sum views/1h"]
    del ring[max(ring)]


def ring_lost(states: States) -> None:
    del user_of(states)["tiles"]["sum views/1h"]


def ring_of_another_window(states: States) -> None:
    user_of(states)["tiles"]["sum spend/1y"] = {0: 1}


def set_with_another_value(states: States) -> None:
    ring = next(ring for ring in user_of(states)["distinct"].values() if ring)
    ring[min(ring)] = {"values": [1, 2]}


def set_lost(states: States) -> None:
    sets = user_of(states)["distinct"]
    del sets[next(name for name, ring in sets.items() if ring)]


def last_value_older(states: States) -> None:
    next(iter(user_of(states)["last"].values()))["time_ms"] -= 1


def histogram_of_one_more(states: States) -> None:
    next(iter(user_of(states)["histograms"].values()))[0] += 1


def session_longer(states: States) -> None:
    user_of(states)["session"]["start_ms"] -= 1


def session_lost(states: States) -> None:
    user_of(states)["session"] = None


def commits_fall(states: States) -> None:
    sequence = user_of(states)["sequence"]
    for n, entry in enumerate(sequence):
        entry["commit"] = len(sequence) - n


def query_missing(states: States) -> None:
    del user_of(states, 3)["queries"][0]


def newest_behind(states: States) -> None:
    user_of(states)["newest_ms"] = 1


def first_wrong(states: States) -> None:
    user_of(states)["first_ms"] = 1


def sequence_swapped(states: States) -> None:
    sequence = user_of(states)["sequence"]
    sequence[3], sequence[4] = sequence[4], sequence[3]


def sequence_with_a_repeat(states: States) -> None:
    sequence = user_of(states)["sequence"]
    sequence[:] = [*sequence[1:], sequence[-1]]


def key_missing(states: States) -> None:
    del states[next(iter(states))]


def key_extra(states: States) -> None:
    states[7, "user", "00" * 16] = user_of(states)


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
