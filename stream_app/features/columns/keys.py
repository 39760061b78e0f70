"""Entity keys as numbers, and an index from keys to rows of state: no Python object per event.

A key is a digest of 16 bytes, or of 24 within one user (stream_app/features/columns/event_columns.py): two or three words of 64
bits; zeros for no entity. Digests are evenly spread, so the index hashes by one multiplication. Words are a key's bytes in this
machine's byte order; keys never leave the process as words.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from stream_app.features.jit import Int, compiled, inlined
from stream_app.privacy import DIGEST_BYTES

_WORD: Final = 8  # bytes
_PLAIN: Final = DIGEST_BYTES // _WORD
_SPREAD: Final = 0x9E3779B97F4A7C15  # 2**64 by the golden ratio
_NONE: Final = -1  # no entity
_MISSING: Final = -2  # an entity that has no row yet
_EMPTY: Final = -1  # a slot
_FEWEST_VACANCIES: Final = 64


class EntityKeys(Sequence[bytes]):
    """B keys of one kind: `words` (B, 2 or 3) uint64, zeros for none; as a sequence they are bytes, b"" for none."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self.words = words

    def __len__(self) -> int:
        return len(self.words)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        return self._bytes[at]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._bytes)

    @cached_property
    def _bytes(self) -> list[bytes]:
        data, width = np.ascontiguousarray(self.words).tobytes(), self.words.shape[1] * _WORD
        there: list[bool] = np.any(self.words, axis=1).tolist()
        starts = range(0, len(data), width)
        return [data[start : start + width] if known else b"" for start, known in zip(starts, there, strict=True)]


def words_of(keys: Sequence[bytes]) -> NDArray[np.uint64]:
    """Return B keys of one kind as numbers, (B, 2 or 3) uint64, zeros for b""; (B, 2) if there are none."""
    if isinstance(keys, EntityKeys):
        return keys.words
    joined = b"".join(keys)
    if not joined:
        return np.zeros((len(keys), _PLAIN), np.uint64)
    width = next(len(key) for key in keys if key)
    if len(joined) != width * len(keys):
        nothing = bytes(width)
        joined = b"".join([key or nothing for key in keys])
    return np.frombuffer(joined, np.uint64).reshape(len(keys), width // _WORD)


class _Parts(NamedTuple):
    """The arrays of a KeyIndex: slots (S,), each a row or -1; words and used as there."""

    slots: NDArray[np.int32]
    words: NDArray[np.uint64]
    used: NDArray[np.int64]


def counted_numbers(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return N digests (N, 2) as values of a measure: their first 8 bytes, big-endian, shifted right once."""
    first = words[:, 0]
    return ((first.byteswap() if sys.byteorder == "little" else first) >> np.uint64(1)).astype(np.int64)


class Vacancies:
    """Vacant rows as a stack."""

    def __init__(self) -> None:
        self._rows = np.zeros(_FEWEST_VACANCIES, np.int32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def give(self, rows: NDArray[np.integer[Any]]) -> None:
        """Push N rows."""
        end = self._count + len(rows)
        if end > len(self._rows):
            self._rows = np.concatenate((self._rows[: self._count], np.zeros(max(end, 2 * self._count) - self._count, np.int32)))
        self._rows[self._count : end] = rows
        self._count = end

    def take(self, most: int) -> NDArray[np.int32]:
        """Pop that many rows, or all if there are fewer."""
        begin = max(0, self._count - most)
        rows = self._rows[begin : self._count].copy()
        self._count = begin
        return rows


class KeyIndex:
    """Maps the entities of one kind to rows, which the caller assigns.

    Args:
        rows: The number of rows; `grow` adds more.

    Attributes:
        words: (rows, 2 or 3) uint64, the key of each row.
        used: (rows,) int64, the number (from 1) of the last batch that looked the row up; 0 for a vacant row.
    """

    def __init__(self, rows: int) -> None:
        self.words = np.zeros((rows, _PLAIN), np.uint64)  # the first keys decide the width
        self.used = np.zeros(rows, np.int64)
        self._slots = _slots(rows)

    def __len__(self) -> int:
        return len(self.used)

    def grow(self, rows: int) -> None:
        """Enlarge to that many rows."""
        before = len(self.used)
        self.words = np.concatenate((self.words, np.zeros((rows - before, self.words.shape[1]), np.uint64)))
        self.used = np.concatenate((self.used, np.zeros(rows - before, np.int64)))
        self._slots = _slots(rows)
        _fill(self._parts())

    def find(self, words: NDArray[np.uint64], batch: int) -> tuple[NDArray[np.int32], int]:
        """Look up B keys.

        Args:
            words: (B, 2 or 3).
            batch: The batch's number, above the previous one.

        Returns:
            The rows (B,) int32, -1 for no entity, -2 for an entity without a row; and how many different keys have no row.
        """
        numbers = np.full(len(words), _NONE, np.int32)
        if not words.any():
            return numbers, 0
        self._fit(words)
        if not _find(words, self._parts(), batch, numbers):
            return numbers, 0
        return numbers, len(np.unique(_mixed(words[numbers == _MISSING])))

    def add(
        self, words: NDArray[np.uint64], numbers: NDArray[np.int32], batch: int, free: NDArray[np.int32]
    ) -> NDArray[np.int64]:
        """Assign a row of `free` to each entity without one, in order of their first events.

        Args:
            words: As in `find`.
            numbers: From `find`; the new rows are written into it.
            batch: As in `find`.
            free: As many vacant rows as `find` counted.

        Returns:
            For each free row the number of its entity's first event, (K,).
        """
        first = np.empty(len(free), np.int64)
        added = _add(words, self._parts(), batch, free, numbers, first)
        assert added == len(free), "two keys mix to one number"  # of 2**64
        return first

    def new(self, words: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Return the result of `find` for N keys without rows, (N,)."""
        self._fit(words)
        return np.full(len(words), _MISSING, np.int32)

    def remove(self, rows: NDArray[np.integer[Any]]) -> None:
        """Make used rows vacant."""
        _remove(rows, self._parts())

    def rows_of(self, words: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Look up B keys without side effects: (B,) rows, negative for none."""
        numbers = np.full(len(words), _NONE, np.int32)
        if words.shape[1] == self.words.shape[1]:
            _look(words, self._parts(), numbers)
        return numbers

    def keys(self, rows: NDArray[np.integer[Any]]) -> list[bytes]:
        """Return the keys of rows."""
        return list(EntityKeys(self.words[rows]))

    def _fit(self, words: NDArray[np.uint64]) -> None:
        if words.shape[1] != self.words.shape[1]:  # the first keys
            self.words = np.zeros((len(self.used), words.shape[1]), np.uint64)

    def _parts(self) -> _Parts:
        return _Parts(self._slots, self.words, self.used)


def _slots(rows: int) -> NDArray[np.int32]:
    return np.full(1 << max(4, (2 * rows).bit_length()), _EMPTY, np.int32)  # at most half full


@inlined
def _home(words: NDArray[np.uint64], number: Int, mask: Int) -> Int:
    """Return the first slot to probe for a key."""
    mixed = words[number, 0]
    for column in range(1, words.shape[1]):
        mixed = (mixed * np.uint64(_SPREAD)) ^ words[number, column]
    return np.int64((mixed * np.uint64(_SPREAD)) >> np.uint64(24)) & mask


@inlined
def _slot(words: NDArray[np.uint64], number: Int, index: _Parts) -> Int:
    """Return the slot that holds the key's row, or the empty slot for it."""
    mask = np.int64(len(index.slots) - 1)
    slot = _home(words, number, mask)
    while True:
        row = index.slots[slot]
        if row < 0:
            return slot
        same = True
        for column in range(words.shape[1]):
            same &= index.words[row, column] == words[number, column]
        if same:
            return slot
        slot = (slot + 1) & mask


@inlined
def _known(words: NDArray[np.uint64], number: Int) -> bool:
    bits = np.uint64(0)
    for column in range(words.shape[1]):
        bits |= words[number, column]
    return bool(bits != np.uint64(0))


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return one number per key (N, 2 or 3); different keys have different numbers except with negligible probability."""
    mixed = words[:, 0].copy()
    for column in range(1, words.shape[1]):
        mixed = (mixed * np.uint64(_SPREAD)) ^ words[:, column]
    return mixed


@compiled
def _find(words: NDArray[np.uint64], index: _Parts, batch: int, numbers: NDArray[np.int32]) -> int:
    missing = 0
    for e in range(len(words)):
        if not _known(words, e):
            continue
        row = index.slots[_slot(words, e, index)]
        if row < 0:
            numbers[e] = _MISSING
            missing += 1
        else:
            numbers[e] = row
            index.used[row] = batch
    return missing


@compiled
def _add(
    words: NDArray[np.uint64],
    index: _Parts,
    batch: int,
    free: NDArray[np.int32],
    numbers: NDArray[np.int32],
    first: NDArray[np.int64],
) -> int:
    count = 0
    for e in range(len(words)):
        if numbers[e] != _MISSING:
            continue
        slot = _slot(words, e, index)
        row = index.slots[slot]
        if row < 0:
            if count == len(free):
                return -1
            row = free[count]
            first[count] = e
            count += 1
            index.slots[slot] = row
            index.used[row] = batch
            for column in range(words.shape[1]):
                index.words[row, column] = words[e, column]
        numbers[e] = row
    return count


@compiled
def _look(words: NDArray[np.uint64], index: _Parts, numbers: NDArray[np.int32]) -> None:
    for e in range(len(words)):
        if _known(words, e):
            numbers[e] = index.slots[_slot(words, e, index)]


@compiled
def _fill(index: _Parts) -> None:
    for row in range(len(index.used)):
        if index.used[row] > 0:
            index.slots[_slot(index.words, row, index)] = row


@compiled
def _remove(rows: NDArray[np.integer[Any]], index: _Parts) -> None:
    # Linear probing: entries behind a slot that becomes empty move up, unless that is before their first slot (Knuth, The Art of
    # Computer Programming, volume 3, algorithm 6.4R).
    slots, mask = index.slots, np.int64(len(index.slots) - 1)
    for row in rows:
        index.used[row] = 0
        empty = _slot(index.words, row, index)
        other = empty
        while True:
            other = (other + 1) & mask
            if slots[other] < 0:
                break
            home = _home(index.words, slots[other], mask)
            if ((other - home) & mask) >= ((other - empty) & mask):
                slots[empty] = slots[other]
                empty = other
        slots[empty] = _EMPTY
