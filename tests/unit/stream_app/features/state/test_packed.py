"""Packed states against a dictionary."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.features.columns.keys import words_of
from stream_app.features.state.blobs import Blobs
from stream_app.features.state.packed import PackedStates

NUMBERS = st.lists(st.integers(1, 30), min_size=1, max_size=12, unique=True)
STEPS = st.lists(st.tuples(st.sampled_from(["put", "take", "drop", "forget"]), NUMBERS, st.integers(0, 9_000)), max_size=25)


def keys_of(numbers: list[int], width: int) -> list[bytes]:
    return [number.to_bytes(8, "little") * (width // 8) for number in numbers]


@settings(deadline=None)
@given(steps=STEPS, width=st.sampled_from([16, 24]))
def test_packed_states_equal_a_dictionary(steps: list[tuple[str, list[int], int]], width: int) -> None:
    states = PackedStates()
    expected: dict[bytes, tuple[bytes, int]] = {}
    for step, (what, numbers, size) in enumerate(steps):
        keys = keys_of(numbers, width)
        words = words_of(keys)
        if what == "put":
            blobs = [bytes([step, number]) * (size * number % 4_001) for number in numbers]
            newest = [step * 10 + number for number in numbers]
            states.put(words, Blobs.of(blobs), np.array(newest, np.int64))
            expected.update(zip(keys, zip(blobs, newest, strict=True), strict=True))
        elif what == "take":
            there, actual = states.take(words)
            assert [keys[number] for number in there.tolist()] == [key for key in keys if key in expected]
            assert list(actual) == [expected.pop(key)[0] for key in keys if key in expected]
        elif what == "drop":
            states.drop(words)
            for key in keys:
                expected.pop(key, None)
        else:
            states.forget(size // 30)
            expected = {key: stored for key, stored in expected.items() if stored[1] >= size // 30}
        assert len(states) == len(expected)
        assert sorted(states.keys()) == sorted(expected)
        if expected:
            assert list(states.blobs(words_of(list(expected)))) == [blob for blob, _ in expected.values()]


def test_the_area_does_not_grow_when_blobs_come_and_go() -> None:
    states = PackedStates()
    words = words_of(keys_of(list(range(1, 101)), 16))
    for round_ in range(200):
        states.put(words, Blobs.of([bytes(1_000)] * 100), np.full(100, round_, np.int64))
        if round_ % 2:
            assert len(states.take(words)[0]) == 100
    assert states.size < 1_000_000
