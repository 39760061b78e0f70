"""Every way in which a store can be wrong is found, and counted once a key."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from benchmarks.compare import compare_states
from benchmarks.oracle import Entity, RawEvent, State, expected_states

KEY = "a key for tests only"
States = dict[Entity, State]


def events() -> list[RawEvent]:
    clicks = [RawEvent("clicks", "a", "view", 60_000 * i, device="d", item=f"i{i}", category=f"c{i}") for i in range(40)]
    orders = [RawEvent("orders", "b", "order", 90_000 * i, device="d", amount=1.5, instrument="p") for i in range(4)]
    return clicks + orders


def expected() -> States:
    return expected_states(events(), {"a": 1, "b": 2}, KEY)


def stored() -> States:
    """What a right store holds: the oracle's own states, with sequences as a store keeps them."""
    states = copy.deepcopy(expected())
    for state in states.values():
        state.sequence = [entry for entries in state.arrivals.values() for entry in entries][-32:]
        state.arrivals = {}
    return states


def user_of(states: States) -> State:
    return next(state for (group, kind, _), state in states.items() if (group, kind) == (1, "user"))


def test_a_right_store_has_no_difference() -> None:
    comparison = compare_states(expected(), stored())
    assert comparison.differences == 0
    assert comparison.keys == 4  # two users, two replicas of one device
    assert comparison.sequences == comparison.sequences_of_one_topic == 2
    assert comparison.values > 50


def counted_twice(states: States) -> None:
    ring = user_of(states).rings["events/1h"]
    ring[max(ring)] += 1


def counter_lost(states: States) -> None:
    ring = user_of(states).rings["views/1h"]
    del ring[max(ring)]


def ring_lost(states: States) -> None:
    del user_of(states).rings["views/1h"]


def ring_of_another_window(states: States) -> None:
    user_of(states).rings["spend/1h"] = {0: 1}


def bit_missing(states: States) -> None:
    ring = user_of(states).rings["category/1d"]
    ring[0] &= ring[0] - 1


def newest_behind(states: States) -> None:
    user_of(states).newest_ms -= 1


def first_wrong(states: States) -> None:
    user_of(states).first_ms += 1


def sequence_swapped(states: States) -> None:
    sequence = user_of(states).sequence
    sequence[3], sequence[4] = sequence[4], sequence[3]


def sequence_with_a_repeat(states: States) -> None:
    sequence = user_of(states).sequence
    sequence[:] = [*sequence[1:], sequence[-1]]


def key_missing(states: States) -> None:
    del states[next(iter(states))]


def key_extra(states: States) -> None:
    states[7, "user", "00" * 16] = State(1, 1)


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
        bit_missing,
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
