"""Rings of tiles: add an event to a row of state, select the tiles of a read, merge two rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.past.last import add_last
from stream_app.features.aggregations.past.share import add_count
from stream_app.features.aggregations.session.session_sum import add_session
from stream_app.features.aggregations.windows.distinct import add_value, merge_sets
from stream_app.features.aggregations.windows.min import join_min
from stream_app.features.aggregations.windows.std import clipped, square
from stream_app.features.jit import Int, compiled, inlined
from stream_app.features.state.plan import HEADER, KindPlan

_ONE = np.uint64(1)


@inlined
def quotient(a: Int, b: Int) -> Int:
    """Return a // b for numbers that are not negative: an unsigned division takes half the time of a signed one."""
    return np.int64(np.uint64(a) // np.uint64(b))


@inlined
def remainder(a: Int, b: Int) -> Int:
    """Return a % b for numbers that are not negative."""
    return np.int64(np.uint64(a) % np.uint64(b))


@inlined
def lowest(bits: np.uint64) -> Int:
    """Return the number of the lowest bit that is set; `bits` must not be 0."""
    # Counts the bits below it by the classic sum of neighbouring fields, which the compiler turns into one instruction.
    w = (bits & (~bits + _ONE)) - _ONE
    w -= (w >> _ONE) & np.uint64(0x5555555555555555)
    w = (w & np.uint64(0x3333333333333333)) + ((w >> np.uint64(2)) & np.uint64(0x3333333333333333))
    w = (w + (w >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((w * np.uint64(0x0101010101010101)) >> np.uint64(56))


@inlined
def _low_bits(count: Int) -> np.uint64:
    return ~np.uint64(0) if count >= 64 else (_ONE << np.uint64(count)) - _ONE


@inlined
def _rotated(word: Int, first: Int, slots: Int) -> np.uint64:
    """Turn a ring's bits so that bit j stands for tile `first` + j."""
    by, bits = np.uint64(remainder(first, slots)), np.uint64(word)
    if by == np.uint64(0):
        return bits
    return ((bits >> by) | (bits << (np.uint64(slots) - by))) & _low_bits(slots)


@inlined
def window_bits(row: NDArray[np.int64], newest: Int, b: int, t: Int, plan: KindPlan) -> tuple[np.uint64, Int]:
    """Return the tiles of block b that a read at time t covers: bit j for tile `first` + j, and `first`.

    `newest` is the time + 1 up to which tiles have been forgotten; of merged replicas it may be later than the row's own newest.
    """
    if row[HEADER + b] == 0:
        return np.uint64(0), np.int64(0)
    block = plan.blocks[b]
    now, head = quotient(t, block.tile_ms), quotient(newest - 1, block.tile_ms)
    first = max(now - block.tiles, head - block.slots + 1, np.int64(0))
    last = min(now, head)
    if first > last:
        return np.uint64(0), np.int64(0)
    return _rotated(row[HEADER + b], first, block.slots) & _low_bits(last - first + 1), first


@inlined
def _advance(row: NDArray[np.int64], stored: Int, plan: KindPlan) -> None:
    """Move the newest time to `stored` - 1 if that is newer, and forget the tiles that leave each ring."""
    if stored <= row[0]:
        return
    if row[0] != 0:
        for b in range(len(plan.blocks)):
            if row[HEADER + b] != 0:
                tile_ms, slots = plan.blocks[b].tile_ms, plan.blocks[b].slots
                head, now = quotient(row[0] - 1, tile_ms), quotient(stored - 1, tile_ms)
                if now - head >= slots:
                    row[HEADER + b] = 0
                else:
                    for k in range(head + 1, now + 1):
                        row[HEADER + b] &= np.int64(~(_ONE << np.uint64(remainder(k, slots))))
    row[0] = stored


@inlined
def _open_tile(row: NDArray[np.int64], b: int, k: Int, plan: KindPlan) -> Int:
    """Return the first column of tile k, cleared if the tile was empty; -1 if the ring no longer holds the tile."""
    block = plan.blocks[b]
    slots = block.slots
    if k <= quotient(row[0] - 1, block.tile_ms) - slots:
        return np.int64(-1)
    place = remainder(k, slots)
    start, bit = block.offset + place * block.width, _ONE << np.uint64(place)
    if np.uint64(row[HEADER + b]) & bit == np.uint64(0):
        row[HEADER + b] |= np.int64(bit)
        for c in range(start, start + block.width):
            row[c] = 0
    return np.int64(start)


@inlined
def _changes_block(values: NDArray[np.int64], b: int, plan: KindPlan) -> bool:
    """Whether an event changes a cell of block b: a tile of zeros must not be stored, or equal states would differ in bytes."""
    block = plan.blocks[b]
    for c in range(block.first_cell, block.first_cell + block.sets):
        if values[plan.cells[c]] != 0:
            return True
    for d in range(block.first_set, block.end_set):  # noqa: SIM110 - compiled: no generators
        if values[plan.sets[d].measure] > 0:
            return True
    return False


@inlined
def _add_to_tile(row: NDArray[np.int64], start: Int, stored: Int, values: NDArray[np.int64], b: Int, plan: KindPlan) -> None:
    """Add an event of time `stored` - 1 to the record at column `start` of block b."""
    block = plan.blocks[b]
    acc = block.first_cell
    for c in range(block.clipped):
        row[start + c] += values[plan.cells[acc + c]]
    for c in range(block.clipped, block.squares):
        row[start + c] += clipped(values[plan.cells[acc + c]])
    for c in range(block.squares, block.maxima):
        row[start + c] += square(values[plan.cells[acc + c]])
    for c in range(block.maxima, block.latest):
        row[start + c] = max(row[start + c], values[plan.cells[acc + c]])
    for c in range(block.latest, block.minima):
        if values[plan.cells[acc + c]] > 0:
            row[start + c] = max(row[start + c], stored)
    for c in range(block.minima, block.firsts):
        row[start + c] = join_min(row[start + c], values[plan.cells[acc + c]])
    for c in range(block.firsts, block.sets):
        if values[plan.cells[acc + c]] > 0:
            row[start + c] = join_min(row[start + c], stored)
    for d in range(block.first_set, block.end_set):
        if values[plan.sets[d].measure] > 0:
            add_value(row, start + plan.sets[d].column, plan.sets[d].words, values[plan.sets[d].measure])


@inlined
def add_past(row: NDArray[np.int64], stored: Int, values: NDArray[np.int64], plan: KindPlan) -> None:
    """Add an event of time `stored` - 1 to the parts without a window: first and newest time, last values, histograms."""
    row[0] = max(row[0], stored)
    row[1] = join_min(row[1], stored)
    for last in plan.lasts:
        add_last(row, last.column, stored, values[last.measure])
    for histogram in plan.histograms:
        add_count(row, histogram.column, histogram.cells, values[histogram.measure])


@inlined
def add_event(row: NDArray[np.int64], t: Int, values: NDArray[np.int64], plan: KindPlan) -> None:
    """Add one event to all parts of its entity's state except the sequences."""
    stored = t + 1
    _advance(row, stored, plan)
    add_past(row, stored, values, plan)
    if plan.session_column >= 0:
        add_session(row, plan.session_column, t, plan.session_gap_ms, values, plan.session)
    for b in range(len(plan.blocks)):
        if not _changes_block(values, b, plan):
            continue
        block = plan.blocks[b]
        start = _open_tile(row, b, quotient(t, block.tile_ms), plan)
        if start < 0:
            continue
        _add_to_tile(row, start, stored, values, b, plan)


@inlined
def _merge_tile(target: NDArray[np.int64], start: Int, source: NDArray[np.int64], of: Int, b: Int, plan: KindPlan) -> None:
    """Merge the record at column `of` of `source` into that at `start` of `target`."""
    block = plan.blocks[b]
    for c in range(block.maxima):
        target[start + c] += source[of + c]
    for c in range(block.maxima, block.minima):
        target[start + c] = max(target[start + c], source[of + c])
    for c in range(block.minima, block.sets):
        target[start + c] = join_min(target[start + c], source[of + c])
    for d in range(block.first_set, block.end_set):
        place = plan.sets[d]
        merge_sets(target, start + place.column, source, of + place.column, place.words)


@inlined
def merge_past(target: NDArray[np.int64], source: NDArray[np.int64], plan: KindPlan) -> None:
    """Merge the parts without a window: first and newest time, last values, histograms."""
    target[0] = max(target[0], source[0])
    target[1] = join_min(target[1], source[1])
    for last in plan.lasts:
        add_last(target, last.column, source[last.column], source[last.column + 1])
    for histogram in plan.histograms:
        for c in range(histogram.column, histogram.column + histogram.cells):
            target[c] += source[c]


@compiled
def merge_row(target: NDArray[np.int64], source: NDArray[np.int64], plan: KindPlan) -> None:
    """Merge one row into another, as if one row had taken all events. Sessions and sequences, which shared kinds lack, stay."""
    if source[0] == 0:
        return
    _advance(target, source[0], plan)
    merge_past(target, source, plan)
    for b in range(len(plan.blocks)):
        if source[HEADER + b] == 0:
            continue
        block = plan.blocks[b]
        slots = block.slots
        head = (source[0] - 1) // block.tile_ms
        first = max(head - slots + 1, np.int64(0))
        bits = _rotated(source[HEADER + b], first, slots)
        while bits != np.uint64(0):
            k = first + lowest(bits)
            bits &= bits - _ONE
            start = _open_tile(target, b, k, plan)
            if start < 0:
                continue
            _merge_tile(target, start, source, block.offset + (k % slots) * block.width, b, plan)


@inlined
def _scaled(value: Int, held: Int, asked: Int) -> Int:
    """Return value * held / asked, rounded half up, without the product that might not fit into 63 bits."""
    return value // asked * held + (value % asked * held + asked // 2) // asked


@inlined
def _scale(row: NDArray[np.int64], held: Int, asked: Int, plan: KindPlan) -> None:
    """Scale sums from a sample of `asked` replicas to all `held`: a hash spreads users, and so events, evenly over groups."""
    for histogram in plan.histograms:
        for c in range(histogram.column, histogram.column + histogram.cells):
            row[c] = _scaled(row[c], held, asked)
    for b in range(len(plan.blocks)):
        block = plan.blocks[b]
        bits = np.uint64(row[HEADER + b])
        while bits != np.uint64(0):
            start = block.offset + lowest(bits) * block.width
            bits &= bits - _ONE
            for c in range(start, start + block.maxima):
                row[c] = _scaled(row[c], held, asked)


@compiled
def merge_replicas(
    plan: KindPlan,
    replicas: NDArray[np.int64],
    of: NDArray[np.int32],
    held: NDArray[np.int32],
    asked: NDArray[np.int32],
    merged: NDArray[np.int64],
) -> None:
    """Merge replicas (R, W) into empty rows `merged` (N, W): replica r into row `of[r]`, whose sums then grow by held / asked."""
    for r in range(replicas.shape[0]):
        merge_row(merged[of[r]], replicas[r], plan)
    for i in range(merged.shape[0]):
        if held[i] > asked[i] and asked[i] > 0:
            _scale(merged[i], np.int64(held[i]), np.int64(asked[i]), plan)
