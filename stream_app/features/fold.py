"""The fold: events are applied one after the other, each reading its entity's past before it is added to it.

One plain loop a kind of entity; it interprets the layout's arrays and knows no feature by name. It is the definition that the
oracle in the tests checks: for every event, (1) judge lateness by the user's newest event, (2) read, (3) add.

An aggregation is: what `_add` puts into a record, how `_join` merges two records, and what `_evaluate` makes of the joined ones.
Invariant: the state after a set of events does not depend on their order (sequences apart), nor on how it was cut into batches.
Times are epoch ms; in the state they are one higher, so that 0 is "no event". All compiled code that calls each other is in
this file (why: compiled.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_app.features.compiled import compiled, inlined
from stream_app.features.layout import KindPlan

__all__ = ["SEQUENCE", "Batch", "Out", "State", "fold_kind", "merge_rows"]

SEQUENCE = 32  # model.contract.SEQUENCE_LENGTH; a literal, so that the compiler can unroll; the engine checks that they agree
_ENTRY = 4  # columns of one entry: time_ms + 1, item bucket, category bucket, kind + 1

# Columns of plan.blocks, plan.codes and plan.reals (layout.KindPlan).
_TILE_MS, _TILES, _SLOTS, _WIDTH, _SUMS, _OFFSET = 0, 1, 2, 3, 4, 5
_CODE, _HERE, _PER, _MEASURE, _COLUMN, _ESTIMATE = 0, 1, 2, 3, 4, 5
_SCALE, _PRIOR_UP, _PRIOR_DOWN, _DEFAULT, _LOW, _HIGH = 0, 1, 2, 3, 4, 5
_SUM, _MEAN, _RATE, _RATIO, _DISTINCT, _RECENCY, _AGE = 0, 1, 2, 3, 4, 5, 6  # layout.AGGREGATION_CODES


class Batch(NamedTuple):
    """B events: times (B,) ms, values (B, M), ids (B, 3) int32 item bucket, category bucket, kind + 1."""

    times: NDArray[np.int64]
    values: NDArray[np.int64]
    ids: NDArray[np.int32]


class State(NamedTuple):
    """N entities of one kind.

    rows (B,) int32: each event's entity, -1 for none. own (N, W): this group's state. others (N, W): what other replicas hold,
    only read; (0, W) for none. touched (N,): set for what changed.
    """

    rows: NDArray[np.int32]
    own: NDArray[np.int64]
    others: NDArray[np.int64]
    touched: NDArray[np.bool_]


class Out(NamedTuple):
    """Tensors of B events, zeros before the first kind.

    late_by (B,) int64 ms, dense (B, F) float32, sequence_ids (B, 32, 3) int32, sequence_gaps (B, 32) float32 seconds.
    """

    late_by: NDArray[np.int64]
    dense: NDArray[np.float32]
    sequence_ids: NDArray[np.int32]
    sequence_gaps: NDArray[np.float32]


@inlined
def _join(into: NDArray[np.int64], at: int, record: NDArray[np.int64], start: np.int64, sums: np.int64, width: np.int64) -> None:
    """Merge one record into another: sums add, bitmaps unite."""
    for c in range(sums):
        into[at + c] += record[start + c]
    for c in range(sums, width):
        into[at + c] |= record[start + c]


@inlined
def _read(row: NDArray[np.int64], newest: np.int64, t: np.int64, plan: KindPlan, joined: NDArray[np.int64]) -> None:
    """Join the tiles of every window at time t into `joined` (A,). `newest` is the entity's, over all replicas."""
    if row[0] == 0:
        return
    at = 0
    for b in range(plan.blocks.shape[0]):
        block = plan.blocks[b]
        slots, width = block[_SLOTS], block[_WIDTH]
        now = t // block[_TILE_MS]
        head = newest // block[_TILE_MS]
        own_head = (row[0] - 1) // block[_TILE_MS]
        first = max(now - block[_TILES], head - slots + 1, 0)
        last = min(now, own_head)
        if first <= last:
            start = block[_OFFSET] + (first % slots) * width
            end = block[_OFFSET] + slots * width
            for _ in range(last - first + 1):
                if start == end:  # the ring wraps
                    start = block[_OFFSET]
                _join(joined, at, row, start, block[_SUMS], width)
                start += width
        at += width


@compiled
def _advance(row: NDArray[np.int64], t: np.int64, plan: KindPlan) -> None:
    """Move the entity's newest time to t: clear the tiles that are skipped, in every window. Does nothing if t is not newer."""
    if row[0] != 0 and t > row[0] - 1:
        for b in range(plan.blocks.shape[0]):
            block = plan.blocks[b]
            slots, width = block[_SLOTS], block[_WIDTH]
            head = (row[0] - 1) // block[_TILE_MS]
            now = t // block[_TILE_MS]
            for k in range(max(head, now - slots) + 1, now + 1):
                start = block[_OFFSET] + (k % slots) * width
                row[start : start + width] = 0
    row[0] = max(row[0], t + 1)


@inlined
def _add(row: NDArray[np.int64], t: np.int64, values: NDArray[np.int64], plan: KindPlan) -> None:
    """Add one event to its tile of every window where that tile is still kept."""
    _advance(row, t, plan)
    if row[1] == 0 or t + 1 < row[1]:
        row[1] = t + 1
    at = 0
    for b in range(plan.blocks.shape[0]):
        block = plan.blocks[b]
        k = t // block[_TILE_MS]
        if k > (row[0] - 1) // block[_TILE_MS] - block[_SLOTS]:
            start = block[_OFFSET] + (k % block[_SLOTS]) * block[_WIDTH]
            for c in range(block[_SUMS]):
                row[start + c] += values[plan.cells[at + c]]
        at += block[_WIDTH]
    for d in range(plan.distincts.shape[0]):
        b, word, words, measure = plan.distincts[d]
        block = plan.blocks[b]
        k = t // block[_TILE_MS]
        value = values[measure]
        if value > 0 and k > (row[0] - 1) // block[_TILE_MS] - block[_SLOTS]:
            bit = value % (words * 64)
            start = block[_OFFSET] + (k % block[_SLOTS]) * block[_WIDTH] + word
            row[start + bit // 64] |= np.int64(1) << (bit % 64)


@inlined
def _ones(word: np.int64) -> np.int64:
    # The classic sum of neighbouring fields; the compiler knows it and emits one instruction.
    w = np.uint64(word)
    w -= (w >> np.uint64(1)) & np.uint64(0x5555555555555555)
    w = (w & np.uint64(0x3333333333333333)) + ((w >> np.uint64(2)) & np.uint64(0x3333333333333333))
    w = (w + (w >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((w * np.uint64(0x0101010101010101)) >> np.uint64(56))


@inlined
def _seconds(since: np.int64, t: np.int64) -> np.float64:
    return np.float64(t - since if t > since else 0) / 1000.0


@inlined
def _ratio(own: np.int64, total: np.int64, count: np.int64, default: np.float64) -> np.float64:
    """The event's own value over total / count: both amounts are in cents, so the unit cancels out."""
    if own == 0:
        return np.float64(0.0)
    return own * np.float64(count) / total if total > 0 else default


@inlined
def _evaluate(
    plan: KindPlan,
    joined: NDArray[np.int64],
    values: NDArray[np.int64],
    t: np.int64,
    newest: np.int64,
    first: np.int64,
    dense: NDArray[np.float32],
) -> None:
    """Write the kind's features from the joined windows. `newest` and `first` are -1 for an entity without a past.

    The loop is in here, and its parts take scalars: passing arrays costs a count of references each (0.1 us a feature, measured).
    """
    for f in range(plan.codes.shape[0]):
        code, here, per = plan.codes[f, _CODE], plan.codes[f, _HERE], plan.codes[f, _PER]
        measure = plan.codes[f, _MEASURE]
        scale, value = plan.reals[f, _SCALE], plan.reals[f, _DEFAULT]
        if code == _SUM:
            value = joined[here] * scale
        elif code == _MEAN:
            value = joined[here] * scale / joined[per] if joined[per] > 0 else value
        elif code == _RATE:
            value = (joined[here] * scale + plan.reals[f, _PRIOR_UP]) / (joined[per] + plan.reals[f, _PRIOR_DOWN])
        elif code == _RATIO:
            value = _ratio(values[measure], joined[here], joined[per], value)
        elif code == _DISTINCT:
            on = np.int64(0)
            for word in range(here, here + per):
                on += _ones(joined[word])
            value = plan.estimates[plan.codes[f, _ESTIMATE], on]
        elif code == _RECENCY:
            value = _seconds(newest, t) if newest >= 0 else value
        elif code == _AGE:
            value = _seconds(first, t) if first >= 0 else value
        else:
            value = values[measure] * scale
        low, high = plan.reals[f, _LOW], plan.reals[f, _HIGH]
        dense[plan.codes[f, _COLUMN]] = low if value < low else high if value > high else value


@inlined
def _sequence_out(row: NDArray[np.int64], start: int, t: np.int64, ids: NDArray[np.int32], gaps: NDArray[np.float32]) -> None:
    """Write the last interactions, oldest first and right-aligned: ids (32, 3), gaps (32,) in seconds, not below 0."""
    total = row[start]
    for back in range(1, min(total, SEQUENCE) + 1):
        entry = start + 1 + ((total - back) % SEQUENCE) * _ENTRY
        to = SEQUENCE - back
        ids[to, 0] = row[entry + 1]
        ids[to, 1] = row[entry + 2]
        ids[to, 2] = row[entry + 3]
        gaps[to] = _seconds(row[entry] - 1, t)


@inlined
def _sequence_add(row: NDArray[np.int64], start: int, t: np.int64, ids: NDArray[np.int32]) -> None:
    entry = start + 1 + (row[start] % SEQUENCE) * _ENTRY
    row[entry] = t + 1
    row[entry + 1] = ids[0]
    row[entry + 2] = ids[1]
    row[entry + 3] = ids[2]
    row[start] += 1


@compiled
def fold_kind(plan: KindPlan, batch: Batch, state: State, out: Out, lateness_ms: int) -> None:
    """Fold a batch into the entities of one kind, in the order of its events; outputs are written in place.

    An event without such an entity reads as one without a past. A late event neither reads nor changes anything.

    Args:
        plan: the compiled kind.
        batch: the events.
        state: the entities; `own` and `touched` are changed.
        out: the tensors; this kind's columns of `dense` are written.
        lateness_ms: events older than this before their entity's newest are late; -1: `out.late_by` is given, not judged here.
    """
    joined = np.zeros(plan.cells.shape[0], np.int64)
    own, others = state.own, state.others
    for e in range(batch.times.shape[0]):
        i, t = state.rows[e], batch.times[e]
        newest, first = np.int64(-1), np.int64(-1)
        if i >= 0:
            newest, first = own[i, 0] - 1, own[i, 1] - 1
        if lateness_ms >= 0 and newest >= 0 and t < newest - lateness_ms:
            out.late_by[e] = newest - t
        if out.late_by[e] > 0:
            continue
        joined[:] = 0
        if i >= 0:
            if others.shape[0] > 0 and others[i, 0] > 0:
                newest = max(newest, others[i, 0] - 1)
                first = others[i, 1] - 1 if first < 0 else min(first, others[i, 1] - 1)
                _read(others[i], newest, t, plan, joined)
            _read(own[i], newest, t, plan, joined)
        _evaluate(plan, joined, batch.values[e], t, newest, first, out.dense[e])
        if i >= 0:
            if plan.sequence >= 0:
                _sequence_out(own[i], plan.sequence, t, out.sequence_ids[e], out.sequence_gaps[e])
                _sequence_add(own[i], plan.sequence, t, batch.ids[e])
            _add(own[i], t, batch.values[e], plan)
            state.touched[i] = True


@compiled
def merge_rows(plan: KindPlan, replicas: NDArray[np.int64], of: NDArray[np.int64], merged: NDArray[np.int64]) -> None:
    """Merge replicas (R, W) into `merged` (N, W), zeros before; replica r belongs to row `of[r]`. Sequences are not merged."""
    for r in range(replicas.shape[0]):
        source, target = replicas[r], merged[of[r]]
        if source[0] == 0:
            continue
        _advance(target, source[0] - 1, plan)
        target[1] = source[1] if target[1] == 0 else min(target[1], source[1])
        for b in range(plan.blocks.shape[0]):
            block = plan.blocks[b]
            slots, width = block[_SLOTS], block[_WIDTH]
            source_head = (source[0] - 1) // block[_TILE_MS]
            target_head = (target[0] - 1) // block[_TILE_MS]
            for k in range(max(target_head - slots + 1, 0), source_head + 1):
                start = block[_OFFSET] + (k % slots) * width
                _join(target, start, source, start, block[_SUMS], width)
