"""Rings of tiles: how an event is added to a row of state, which tiles a read takes, and how two rows merge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.distinct import add_value, merge_sets
from stream_app.features.aggregations.extremes import join_min
from stream_app.features.aggregations.histogram import add_count
from stream_app.features.aggregations.last import add_last
from stream_app.features.aggregations.session import add_session
from stream_app.features.aggregations.spread import clipped, square
from stream_app.features.jit import Int, compiled, inlined
from stream_app.features.state.layout import HEADER, KindPlan

__all__ = ["add_event", "add_past", "kept_bits", "lowest", "merge_past", "merge_replicas", "merge_row", "quotient", "remainder"]

# Columns of plan.blocks and plan.places (layout.KindPlan).
_TILE_MS, _TILES, _SLOTS, _WIDTH, _OFFSET = 0, 1, 2, 3, 4
_CLIPPED, _SQUARES, _MAX, _LATEST, _MIN, _FIRST, _SETS, _FIRST_CELL = 5, 6, 7, 8, 9, 10, 11, 12
_SET_FROM, _SET_TO = 14, 15
_SESSION, _GAP_MS = 0, 3
_ONE = np.uint64(1)


@inlined
def quotient(a: Int, b: Int) -> Int:
    """Return a // b of what is not negative: a division of unsigned numbers, half the work of the other one."""
    return np.int64(np.uint64(a) // np.uint64(b))


@inlined
def remainder(a: Int, b: Int) -> Int:
    """Return a % b of what is not negative."""
    return np.int64(np.uint64(a) % np.uint64(b))


@inlined
def lowest(bits: np.uint64) -> Int:
    """Return the number of the lowest bit that is set; there must be one."""
    # How many bits are below it: the classic sum of neighbouring fields, which the compiler knows and makes one instruction.
    w = (bits & (~bits + _ONE)) - _ONE
    w -= (w >> _ONE) & np.uint64(0x5555555555555555)
    w = (w & np.uint64(0x3333333333333333)) + ((w >> np.uint64(2)) & np.uint64(0x3333333333333333))
    w = (w + (w >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((w * np.uint64(0x0101010101010101)) >> np.uint64(56))


@inlined
def _low_bits(count: Int) -> np.uint64:
    return ~np.uint64(0) if count >= 64 else (_ONE << np.uint64(count)) - _ONE


@inlined
def _turned(word: Int, first: Int, slots: Int) -> np.uint64:
    """Turn a ring's bits so that bit j stands for tile `first` + j."""
    by, bits = np.uint64(remainder(first, slots)), np.uint64(word)
    if by == np.uint64(0):
        return bits
    return ((bits >> by) | (bits << (np.uint64(slots) - by))) & _low_bits(slots)


@inlined
def kept_bits(row: NDArray[np.int64], newest: Int, b: int, t: Int, plan: KindPlan) -> tuple[np.uint64, Int]:
    """Which tiles of block b a read at time t takes: bit j for tile `first` + j, and `first`.

    `newest` is the time + 1 that the tiles are kept by: not the row's own where a view knows of newer events.
    """
    if row[HEADER + b] == 0:
        return np.uint64(0), np.int64(0)
    block = plan.blocks[b]
    now, head = quotient(t, block[_TILE_MS]), quotient(newest - 1, block[_TILE_MS])
    first = max(now - block[_TILES], head - block[_SLOTS] + 1, np.int64(0))
    last = min(now, head)
    if first > last:
        return np.uint64(0), np.int64(0)
    return _turned(row[HEADER + b], first, block[_SLOTS]) & _low_bits(last - first + 1), first


@inlined
def _advance(row: NDArray[np.int64], stored: Int, plan: KindPlan) -> None:
    """Move the newest time to `stored` - 1 if that is newer: forget the tiles that are skipped, in every window."""
    if stored <= row[0]:
        return
    if row[0] != 0:
        for b in range(plan.blocks.shape[0]):
            if row[HEADER + b] != 0:
                tile_ms, slots = plan.blocks[b, _TILE_MS], plan.blocks[b, _SLOTS]
                head, now = quotient(row[0] - 1, tile_ms), quotient(stored - 1, tile_ms)
                if now - head >= slots:
                    row[HEADER + b] = 0
                else:
                    for k in range(head + 1, now + 1):
                        row[HEADER + b] &= np.int64(~(_ONE << np.uint64(remainder(k, slots))))
    row[0] = stored


@inlined
def _opened(row: NDArray[np.int64], b: int, k: Int, plan: KindPlan) -> Int:
    """Return the first column of tile k, cleared if nothing was in it; -1 if the tile is no longer kept."""
    block = plan.blocks[b]
    slots = block[_SLOTS]
    if k <= quotient(row[0] - 1, block[_TILE_MS]) - slots:
        return np.int64(-1)
    place = remainder(k, slots)
    start, bit = block[_OFFSET] + place * block[_WIDTH], _ONE << np.uint64(place)
    if np.uint64(row[HEADER + b]) & bit == np.uint64(0):
        row[HEADER + b] |= np.int64(bit)
        for c in range(start, start + block[_WIDTH]):
            row[c] = 0
    return np.int64(start)


@inlined
def _says_something(values: NDArray[np.int64], b: int, plan: KindPlan) -> bool:
    """Whether an event changes a cell of block b: a tile of zeros must not be kept, or equal states would differ."""
    block = plan.blocks[b]
    for c in range(block[_FIRST_CELL], block[_FIRST_CELL] + block[_SETS]):
        if values[plan.cells[c]] != 0:
            return True
    for d in range(block[_SET_FROM], block[_SET_TO]):  # noqa: SIM110 - compiled: no generators
        if values[plan.sets[d, 3]] > 0:
            return True
    return False


@inlined
def _add_to_tile(row: NDArray[np.int64], start: Int, stored: Int, values: NDArray[np.int64], b: Int, plan: KindPlan) -> None:
    """Add an event of time `stored` - 1 to the record at column `start` of block b."""
    block = plan.blocks[b]
    acc = block[_FIRST_CELL]
    for c in range(block[_CLIPPED]):
        row[start + c] += values[plan.cells[acc + c]]
    for c in range(block[_CLIPPED], block[_SQUARES]):
        row[start + c] += clipped(values[plan.cells[acc + c]])
    for c in range(block[_SQUARES], block[_MAX]):
        row[start + c] += square(values[plan.cells[acc + c]])
    for c in range(block[_MAX], block[_LATEST]):
        row[start + c] = max(row[start + c], values[plan.cells[acc + c]])
    for c in range(block[_LATEST], block[_MIN]):
        if values[plan.cells[acc + c]] > 0:
            row[start + c] = max(row[start + c], stored)
    for c in range(block[_MIN], block[_FIRST]):
        row[start + c] = join_min(row[start + c], values[plan.cells[acc + c]])
    for c in range(block[_FIRST], block[_SETS]):
        if values[plan.cells[acc + c]] > 0:
            row[start + c] = join_min(row[start + c], stored)
    for d in range(block[_SET_FROM], block[_SET_TO]):
        if values[plan.sets[d, 3]] > 0:
            add_value(row, start + plan.sets[d, 1], plan.sets[d, 2], values[plan.sets[d, 3]])


@inlined
def add_past(row: NDArray[np.int64], stored: Int, values: NDArray[np.int64], plan: KindPlan) -> None:
    """Add an event of time `stored` - 1 to what has no window and every kind may have."""
    row[0] = max(row[0], stored)
    row[1] = join_min(row[1], stored)
    for f in range(plan.lasts.shape[0]):
        add_last(row, plan.lasts[f, 0], stored, values[plan.lasts[f, 1]])
    for h in range(plan.histograms.shape[0]):
        add_count(row, plan.histograms[h, 0], plan.histograms[h, 1], values[plan.histograms[h, 2]])


@inlined
def add_event(row: NDArray[np.int64], t: Int, values: NDArray[np.int64], plan: KindPlan) -> None:
    """Add one event to everything that its entity keeps, sequences apart."""
    stored = t + 1
    _advance(row, stored, plan)
    add_past(row, stored, values, plan)
    if plan.places[_SESSION] >= 0:
        add_session(row, plan.places[_SESSION], t, plan.places[_GAP_MS], values, plan.session)
    for b in range(plan.blocks.shape[0]):
        if not _says_something(values, b, plan):
            continue
        block = plan.blocks[b]
        start = _opened(row, b, quotient(t, block[_TILE_MS]), plan)
        if start < 0:
            continue
        _add_to_tile(row, start, stored, values, b, plan)


@inlined
def _merge_tile(target: NDArray[np.int64], start: Int, source: NDArray[np.int64], of: Int, b: Int, plan: KindPlan) -> None:
    """Merge the record at column `of` of `source` into that at `start` of `target`."""
    block = plan.blocks[b]
    for c in range(block[_MAX]):
        target[start + c] += source[of + c]
    for c in range(block[_MAX], block[_MIN]):
        target[start + c] = max(target[start + c], source[of + c])
    for c in range(block[_MIN], block[_SETS]):
        target[start + c] = join_min(target[start + c], source[of + c])
    for d in range(block[_SET_FROM], block[_SET_TO]):
        at, words = plan.sets[d, 1], plan.sets[d, 2]
        merge_sets(target, start + at, source, of + at, words)


@inlined
def merge_past(target: NDArray[np.int64], source: NDArray[np.int64], plan: KindPlan) -> None:
    """Merge what has no window and every kind may have."""
    target[0] = max(target[0], source[0])
    target[1] = join_min(target[1], source[1])
    for f in range(plan.lasts.shape[0]):
        at = plan.lasts[f, 0]
        add_last(target, at, source[at], source[at + 1])
    for h in range(plan.histograms.shape[0]):
        for c in range(plan.histograms[h, 0], plan.histograms[h, 0] + plan.histograms[h, 1]):
            target[c] += source[c]


@compiled
def merge_row(target: NDArray[np.int64], source: NDArray[np.int64], plan: KindPlan) -> None:
    """Merge one row into another, as if every event had been added to one. What only an unshared kind has is left as it is."""
    if source[0] == 0:
        return
    _advance(target, source[0], plan)
    merge_past(target, source, plan)
    for b in range(plan.blocks.shape[0]):
        if source[HEADER + b] == 0:
            continue
        block = plan.blocks[b]
        slots = block[_SLOTS]
        head = (source[0] - 1) // block[_TILE_MS]
        first = max(head - slots + 1, np.int64(0))
        bits = _turned(source[HEADER + b], first, slots)
        while bits != np.uint64(0):
            k = first + lowest(bits)
            bits &= bits - _ONE
            start = _opened(target, b, k, plan)
            if start < 0:
                continue
            _merge_tile(target, start, source, block[_OFFSET] + (k % slots) * block[_WIDTH], b, plan)


@inlined
def _times(value: Int, held: Int, asked: Int) -> Int:
    """Return value * held / asked, rounded half up, without the product that might not fit into 63 bits."""
    return value // asked * held + (value % asked * held + asked // 2) // asked


@inlined
def _scale(row: NDArray[np.int64], held: Int, asked: Int, plan: KindPlan) -> None:
    """Scale what adds up from a sample of `asked` replicas to all `held`: users, so events, are spread over groups by a hash."""
    for h in range(plan.histograms.shape[0]):
        for c in range(plan.histograms[h, 0], plan.histograms[h, 0] + plan.histograms[h, 1]):
            row[c] = _times(row[c], held, asked)
    for b in range(plan.blocks.shape[0]):
        block = plan.blocks[b]
        bits = np.uint64(row[HEADER + b])
        while bits != np.uint64(0):
            start = block[_OFFSET] + lowest(bits) * block[_WIDTH]
            bits &= bits - _ONE
            for c in range(start, start + block[_MAX]):
                row[c] = _times(row[c], held, asked)


@compiled
def merge_replicas(
    plan: KindPlan,
    replicas: NDArray[np.int64],
    of: NDArray[np.int32],
    held: NDArray[np.int32],
    asked: NDArray[np.int32],
    merged: NDArray[np.int64],
) -> None:
    """Merge replicas (R, W) into `merged` (N, W), empty before; replica r belongs to row `of[r]`, which grows by held / asked."""
    for r in range(replicas.shape[0]):
        merge_row(merged[of[r]], replicas[r], plan)
    for i in range(merged.shape[0]):
        if held[i] > asked[i] and asked[i] > 0:
            _scale(merged[i], np.int64(held[i]), np.int64(asked[i]), plan)
