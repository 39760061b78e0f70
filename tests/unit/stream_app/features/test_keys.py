"""Keys as numbers, and the index from keys to rows: against dictionaries of bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.features.keys import EntityKeys, KeyIndex, words_of

TTL_MS = 1_000


def key_of(number: int, width: int) -> bytes:
    """A key whose words are close to those of others: what a poor hash would mix up."""
    return b"" if number == 0 else number.to_bytes(8, "little") * (width // 8)


@settings(deadline=None)
@given(numbers=st.lists(st.integers(0, 9), max_size=30), width=st.sampled_from([16, 24]))
def test_keys_as_numbers_are_the_bytes_they_were(numbers: list[int], width: int) -> None:
    keys = [key_of(number, width) for number in numbers]
    as_numbers = EntityKeys(words_of(keys))
    assert list(as_numbers) == keys
    assert [as_numbers[at] for at in range(len(keys))] == keys
    assert list(as_numbers[1:3]) == keys[1:3]
    assert words_of(as_numbers) is as_numbers.words


@settings(deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=25), max_size=12),
    gone=st.lists(st.integers(1, 40), max_size=12),
    width=st.sampled_from([16, 24]),
)
def test_every_key_keeps_the_row_it_was_given_until_it_is_removed(batches: list[list[int]], gone: list[int], width: int) -> None:
    index, state = KeyIndex(4), np.zeros((200, 2), np.int64)
    rows: dict[bytes, int] = {}
    vacant = list(range(200))
    for batch, numbers in enumerate(batches, 1):
        keys = [key_of(number, width) for number in numbers]
        words = words_of(keys)
        found, missing = index.find(words, batch, state, np.zeros(len(keys), np.int64), TTL_MS)
        assert found.tolist() == [rows.get(key, -2) if key else -1 for key in keys]
        assert missing == sum(bool(key) and key not in rows for key in keys)
        if missing:
            free = np.array([vacant.pop(0) for _ in range(missing)], np.int32)
            index.grow(max(len(index), int(free.max()) + 1))
            first = index.add(words, found, batch, free)
            new = list(dict.fromkeys(key for key in keys if key and key not in rows))
            assert [keys[at] for at in first.tolist()] == new
            rows.update(zip(new, free.tolist(), strict=False))
            vacant += free.tolist()[len(new) :]
        assert found.tolist() == [rows[key] if key else -1 for key in keys]
        if batch <= len(gone) and (key := key_of(gone[batch - 1], width)) in rows:
            assert index.keys(np.array([rows[key]])) == [key]
            index.remove(np.array([rows[key]]))
            vacant.append(rows.pop(key))
    assert index.rows_of(words_of([key_of(n, width) for n in range(1, 41)])).tolist() == [
        rows.get(key_of(n, width), -1) for n in range(1, 41)
    ]


def test_a_row_is_emptied_only_if_its_first_event_of_a_batch_comes_after_a_long_silence() -> None:
    index, state = KeyIndex(4), np.zeros((4, 3), np.int64)
    words = words_of([key_of(1, 16), key_of(2, 16), key_of(1, 16)])
    numbers, missing = index.find(words, 1, state, np.array([1, 1, 1]), TTL_MS)
    index.add(words, numbers, 1, np.arange(missing, dtype=np.int32))
    state[0], state[1] = [1 + 5_000, 7, 7], [1 + 5_000, 8, 8]
    # Key 1 comes within its time, then again after it (an event of this batch has kept it alive); key 2 comes too late.
    index.find(words, 2, state, np.array([5_000 + TTL_MS, 5_001 + TTL_MS, 9_999]), TTL_MS)
    assert state[0].tolist() == [5_001, 7, 7]
    assert state[1].tolist() == [0, 0, 0]
