"""distinct: how many different values a window has; exact for few, HyperLogLog above.

A set takes `words` columns of a tile's record. While it has at most `words` values it is their ascending list; then it becomes
a sketch of 16 * words - 1 registers of 4 bits (Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog", 2007). The last nibble of the
last word says which: a value has 63 bits, so only a sketch sets the sign. A set's form depends on what is in it, never on the
order.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, compiled, inlined
from stream_app.features.state.state_schema import Need

MAX_LISTED: Final = 32  # different values of a whole window that are still counted exactly
_MAX_RANK: Final = 15
_MAX_WORDS: Final = 16
_FLAG: Final = np.int64(-(1 << 63))


def _needs(f: Feature) -> tuple[Need, ...]:
    return (Need(f.window, "distinct", f.measure, f.words),)


def _formula(f: Feature) -> str:
    registers = 16 * f.words - 1
    error = f"{1.04 / math.sqrt(registers):.0%}"
    exact = f"exact up to {f.words} a tile and {MAX_LISTED} in all"
    return f"distinct {f.measure} over {f.window}; {exact}, else HyperLogLog, {registers} registers, +-{error}"


DISTINCT: Final = Spec(AggregationCode.DISTINCT, _needs, _formula)


def linear_counts() -> NDArray[np.float64]:
    """Return (17, 256): for sketches of w words, linear counting's m ln(m / V) for V empty registers; 0 where there is none.

    A table keeps logarithms, which differ between machines in the last bit, out of the compiled loop.
    """
    table = np.zeros((_MAX_WORDS + 1, 16 * _MAX_WORDS), np.float64)
    for words in range(1, _MAX_WORDS + 1):
        m = 16 * words - 1
        for empty in range(1, m + 1):
            table[words, empty] = m * math.log(m / empty)
    return table


@inlined
def _register(row: NDArray[np.int64], at: Int, r: Int) -> Int:
    return np.int64((np.uint64(row[at + (r >> 4)]) >> np.uint64(4 * (r & 15))) & np.uint64(15))


@inlined
def _raise(row: NDArray[np.int64], at: Int, r: Int, rank: Int) -> None:
    if rank > _register(row, at, r):
        shift = np.uint64(4 * (r & 15))
        cleared = np.uint64(row[at + (r >> 4)]) & ~(np.uint64(15) << shift)
        row[at + (r >> 4)] = np.int64(cleared | (np.uint64(rank) << shift))


@inlined
def _sketch(row: NDArray[np.int64], at: Int, words: Int, value: Int) -> None:
    """Add a value to a sketch: splitmix64 (Steele, Lea, Flood, 2014) spreads it over 64 bits."""
    z = np.uint64(value) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    rank, low = np.int64(1), z & np.uint64(0xFFFFFFFF)
    while rank < _MAX_RANK and (low & np.uint64(1)) == np.uint64(0):
        low >>= np.uint64(1)
        rank += 1
    _raise(row, at, np.int64((z >> np.uint64(32)) % np.uint64(16 * words - 1)), rank)


@compiled
def _to_sketch(row: NDArray[np.int64], at: Int, words: Int, first: Int, count: Int) -> None:
    """Replace the `count` values that are listed from column `first` on by a sketch at column `at`.

    The sketch lies over the list. Each call keeps one value while the others are read: nothing else can hold them here.
    """
    if count == 0:
        for w in range(words):
            row[at + w] = 0
        row[at + words - 1] = _FLAG
        return
    value = row[first]
    _to_sketch(row, at, words, first + 1, count - 1)
    if value != 0:
        _sketch(row, at, words, value)


@compiled
def add_value(row: NDArray[np.int64], at: Int, words: Int, value: Int) -> None:
    """Add a value > 0 to the set at column `at`."""
    if row[at + words - 1] < 0:
        _sketch(row, at, words, value)
        return
    place = np.int64(0)
    while place < words and row[at + place] != 0 and row[at + place] < value:
        place += 1
    if place < words and row[at + place] == value:
        return
    if row[at + words - 1] != 0:  # the list is full
        _to_sketch(row, at, words, at, words)
        _sketch(row, at, words, value)
        return
    for w in range(words - 1, place, -1):
        row[at + w] = row[at + w - 1]
    row[at + place] = value


@compiled
def merge_sets(target: NDArray[np.int64], at: Int, source: NDArray[np.int64], start: Int, words: Int) -> None:
    """Unite the set at `start` of `source` into the one at `at` of `target`."""
    if source[start + words - 1] >= 0:
        for w in range(words):
            if source[start + w] != 0:
                add_value(target, at, words, source[start + w])
        return
    if target[at + words - 1] >= 0:
        _to_sketch(target, at, words, at, words)
    for r in range(16 * words - 1):
        _raise(target, at, r, _register(source, start, r))


@inlined
def _union_to_sketch(union: NDArray[np.int64], words: Int) -> None:
    count = union[0]
    union[0] = -1
    _to_sketch(union, np.int64(1), words, np.int64(1), count)


@inlined
def unite(union: NDArray[np.int64], row: NDArray[np.int64], at: Int, words: Int) -> None:
    """Unite a tile's set into a window's: union[0] is how many values are listed after it, or -1 before a sketch."""
    if row[at] == 0 and row[at + words - 1] == 0:
        return
    if row[at + words - 1] < 0:
        if union[0] >= 0:
            _union_to_sketch(union, words)
        for r in range(16 * words - 1):
            _raise(union, np.int64(1), r, _register(row, at, r))
        return
    for w in range(words):
        value = row[at + w]
        if value == 0:
            break
        if union[0] < 0:
            _sketch(union, np.int64(1), words, value)
            continue
        known = False
        for i in range(1, union[0] + 1):
            known |= union[i] == value
        if known:
            continue
        if union[0] == MAX_LISTED:
            _union_to_sketch(union, words)
            _sketch(union, np.int64(1), words, value)
        else:
            union[0] += 1
            union[union[0]] = value


@inlined
def read_distinct(union: NDArray[np.int64], words: Int, linear: NDArray[np.float64]) -> Real:
    """Return the size of a window's set."""
    if union[0] >= 0:
        return np.float64(union[0])
    m, inverse, empty = 16 * words - 1, np.int64(0), np.int64(0)
    for r in range(m):
        rank = _register(union, np.int64(1), r)
        inverse += np.int64(1) << (_MAX_RANK - rank)
        if rank == 0:
            empty += 1
    alpha = 0.7213 / (1.0 + 1.079 / m)
    estimate = alpha * m * m / (inverse / np.float64(1 << _MAX_RANK))
    if estimate <= 2.5 * m and empty > 0:
        estimate = linear[words, empty]
    return np.float64(np.rint(estimate))


def registers_of(words: NDArray[np.int64]) -> list[int]:
    """Return the registers of a sketch (W,) int64, for people and for an oracle."""
    unsigned = [int(word) & 0xFFFFFFFFFFFFFFFF for word in words]
    return [unsigned[r >> 4] >> 4 * (r & 15) & 15 for r in range(16 * len(unsigned) - 1)]
