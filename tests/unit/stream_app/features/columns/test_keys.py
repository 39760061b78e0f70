"""Keys as numbers, and the index from keys to rows: against dictionaries of bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.features.columns.keys import EntityKeys, KeyIndex, words_of


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
    assert as_numbers[1:3] == keys[1:3]
    assert words_of(as_numbers) is as_numbers.words


@settings(deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=25), max_size=12),
    gone=st.lists(st.integers(1, 40), max_size=12),
    width=st.sampled_from([16, 24]),
)
def test_every_key_keeps_the_row_it_was_given_until_it_is_removed(batches: list[list[int]], gone: list[int], width: int) -> None:
    index = KeyIndex(4)
    rows: dict[bytes, int] = {}
    vacant = list(range(200))
    for batch, numbers in enumerate(batches, 1):
        keys = [key_of(number, width) for number in numbers]
        words = words_of(keys)
        actual, missing = index.find(words, batch)
        assert actual.tolist() == [rows.get(key, -2) if key else -1 for key in keys]
        assert missing == len({key for key in keys if key and key not in rows})
        if missing:
            free = np.array([vacant.pop(0) for _ in range(missing)], np.int32)
            index.grow(max(len(index), int(free.max()) + 1))
            first = index.add(words, actual, batch, free)
            new = list(dict.fromkeys(key for key in keys if key and key not in rows))
            assert [keys[at] for at in first.tolist()] == new
            rows.update(zip(new, free.tolist(), strict=True))
        assert actual.tolist() == [rows[key] if key else -1 for key in keys]
        if batch <= len(gone) and (key := key_of(gone[batch - 1], width)) in rows:
            assert index.keys(np.array([rows[key]])) == [key]
            index.remove(np.array([rows[key]]))
            vacant.append(rows.pop(key))
    assert index.rows_of(words_of([key_of(n, width) for n in range(1, 41)])).tolist() == [
        rows.get(key_of(n, width), -1) for n in range(1, 41)
    ]
