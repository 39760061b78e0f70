"""State rows as bytes: one blob per entity in the store; a whole batch is packed or unpacked in one compiled call.

    4 bytes  tag of the schema that wrote it (state_schema.py)
    4 bytes  check: the low half of a hash over all that follows
    then varints (LEB128):
      newest_ms + 1, and the distance of the first event from it
      for each block: which tiles hold something, bit j for the j-th tile back from the newest; for each of them, newest first,
        which columns are not 0 (a word of bits), and these columns
      the columns before the blocks, in tokens: `zeros << 2 | literals - 1`, so many zeros and then 1 to 4 columns; zeros at the
        end are left out

Values are non-negative but for sketches, whose highest bit is set; a varint holds the two's complement, at most 10 bytes. Times
are stored as distance from the newest event. One state has one encoding, so equal states are equal bytes. A blob that is cut,
changed or made up is refused; nothing is read or written beyond the buffers (the fuzz test runs with bounds checked).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.errors import ContractError
from stream_app.features.jit import Int, compiled, inlined
from stream_app.features.state.blobs import Blobs
from stream_app.features.state.layout import KindLayout
from stream_app.features.state.plan import HEADER, KindPlan
from stream_app.features.state.tiles import lowest

FOREIGN: Final = 1  # a blob of another schema; its row is empty
_DAMAGED: Final = 2
_TAG, _CHECK = 4, 4
_CHECKED = np.uint64(0xFFFFFFFF)
_VARINT = 10  # bytes of the longest varint of 64 bits
_HASH_START, _HASH_FACTOR = np.uint64(0xCBF29CE484222325), np.uint64(0x9E3779B97F4A7C15)
_LATEST_MS = np.uint64(1 << 50)
_ONE, _NONE = np.uint64(1), np.uint64(0)


def as_blobs(blobs: Blobs | Sequence[bytes | None]) -> Blobs:
    """Return the blobs end to end."""
    return blobs if isinstance(blobs, Blobs) else Blobs.of(blobs)


def newest_ms_of(blob: bytes) -> int:
    """Return the time of the newest event of a packed state of any schema; -1 for an empty one."""
    value = shift = 0
    for byte in blob[_TAG + _CHECK : _TAG + _CHECK + _VARINT]:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    return value - 1


def pack_rows(layout: KindLayout, rows: NDArray[np.int64], which: NDArray[np.int64] | None = None) -> Blobs:
    """Encode rows (N, W) int64: all, or the numbers `which` (K,). The blob of an empty row decodes to an empty row."""
    plan = layout.plan
    if not len(rows) or (which is not None and not len(which)):
        return Blobs(b"", np.zeros(0, np.int64))
    chosen = np.arange(len(rows), dtype=np.int64) if which is None else np.ascontiguousarray(which, np.int64)
    tiles = sum(block.window.slots + 1 for block in layout.schema.blocks)
    most = _TAG + _CHECK + _VARINT * (plan.width + plan.head + tiles + 2)
    buffer = np.empty(max(1, len(chosen) * most), np.uint8)
    ends = np.empty(len(chosen), np.int64)
    _pack(rows, chosen, plan, np.frombuffer(layout.tag, np.uint8), buffer, ends)
    return Blobs(buffer[: int(ends[-1]) if len(ends) else 0].tobytes(), ends)


def unpack_rows(layout: KindLayout, blobs: Blobs) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Decode blobs into rows (N, W) int64; columns of empty tiles stay uninitialised. An empty blob gives an empty row.

    Returns:
        The rows, and for each FOREIGN or 0.

    Raises:
        ContractError: a blob of this schema is damaged.
    """
    rows = np.empty((len(blobs), layout.plan.width), np.int64)
    status = np.zeros(len(blobs), np.int8)
    if not len(blobs):
        return rows, status
    data = np.frombuffer(blobs.data or b"\0", np.uint8)  # an empty buffer has no address to pass
    _unpack(data, blobs.ends, layout.plan, np.frombuffer(layout.tag, np.uint8), rows, status)
    bad = np.flatnonzero(status == _DAMAGED)
    if len(bad):
        blob = blobs[int(bad[0])]
        raise ContractError(
            f"the stored state of {layout.kind} number {bad[0]} of {len(blobs)} read is damaged: {len(blob)} bytes that begin "
            f"with {blob[:12].hex()} do not decode to {layout.plan.width} columns of schema {layout.tag.hex()}.\n"
            "Operator action: another program wrote to the keys, or the store lost bytes; restore it, or delete the key and "
            "replay its events."
        )
    return rows, status


@inlined
def _mix(hashed: np.uint64, value: np.uint64) -> np.uint64:
    mixed = (hashed ^ value) * _HASH_FACTOR
    return mixed ^ (mixed >> np.uint64(29))


@inlined
def _put(buffer: NDArray[np.uint8], at: Int, value: np.uint64) -> Int:
    while value >= np.uint64(128):
        buffer[at] = np.uint8((value & np.uint64(127)) | np.uint64(128))
        value >>= np.uint64(7)
        at += 1
    buffer[at] = np.uint8(value)
    return at + 1


@compiled
def _get_long(data: NDArray[np.uint8], at: Int, end: Int) -> tuple[np.uint64, Int]:
    """Read a varint of 2 to 10 bytes that ends before `end`; the position is -1 if it is truncated or not the shortest form."""
    value, shift = np.uint64(data[at]) & np.uint64(127), np.uint64(7)
    for n in range(1, _VARINT):
        if at + n >= end:
            return value, -1
        byte = np.uint64(data[at + n])
        value |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            too_long = byte == np.uint64(0) or (n == _VARINT - 1 and byte > np.uint64(1))
            return value, -1 if too_long else at + n + 1
        shift += np.uint64(7)
    return value, -1


@inlined
def _get(data: NDArray[np.uint8], at: Int, end: Int) -> tuple[np.uint64, Int]:
    """Read a varint; the position after it is -1 if it does not end before `end`."""
    if at < 0 or at >= end:
        return _NONE, -1
    value = np.uint64(data[at])
    if value < np.uint64(128):
        return value, at + 1
    return _get_long(data, at, end)


@inlined
def _tiles_back(row: NDArray[np.int64], b: int, slots: Int, head: Int) -> np.uint64:
    """Bit j for the j-th tile back from the newest."""
    bits, back, newest = np.uint64(row[HEADER + b]), _NONE, head % slots
    while bits != _NONE:
        back |= _ONE << np.uint64((newest - lowest(bits)) % slots)
        bits &= bits - _ONE
    return back


@inlined
def _pack_tiles(
    row: NDArray[np.int64], plan: KindPlan, buffer: NDArray[np.uint8], at: Int, hashed: np.uint64
) -> tuple[Int, np.uint64]:
    newest = row[0]
    for b in range(len(plan.blocks)):
        block = plan.blocks[b]
        slots, width, times = block.slots, block.width, block.first_time
        head = (newest - 1) // block.tile_ms
        back = _tiles_back(row, b, slots, head)
        at = _put(buffer, at, back)
        hashed = _mix(hashed, back)
        while back != _NONE:
            start = block.offset + ((head - lowest(back)) % slots) * width
            back &= back - _ONE
            used = _NONE
            for c in range(width):
                if row[start + c] != 0:
                    used |= _ONE << np.uint64(c)
            at = _put(buffer, at, used)
            hashed = _mix(hashed, used)
            while used != _NONE:
                n = lowest(used)
                used &= used - _ONE
                value = np.uint64(newest - row[start + n] if plan.times[times + n] else row[start + n])
                at = _put(buffer, at, value)
                hashed = _mix(hashed, value)
    return at, hashed


@inlined
def _pack_head(
    row: NDArray[np.int64], plan: KindPlan, buffer: NDArray[np.uint8], at: Int, hashed: np.uint64
) -> tuple[Int, np.uint64]:
    c, end = np.int64(HEADER + len(plan.blocks)), np.int64(plan.head)
    while True:
        start = c
        while c < end and row[c] == 0:
            c += 1
        if c == end:
            return at, hashed
        stop = c
        while stop < min(end, c + 4) and row[stop] != 0:
            stop += 1
        token = np.uint64((c - start) << 2 | (stop - c - 1))
        at = _put(buffer, at, token)
        hashed = _mix(hashed, token)
        while c < stop:
            value = np.uint64(row[0] - row[c] if plan.relative[c] else row[c])
            at = _put(buffer, at, value)
            hashed = _mix(hashed, value)
            c += 1


@compiled
def _pack(
    rows: NDArray[np.int64],
    chosen: NDArray[np.int64],
    plan: KindPlan,
    tag: NDArray[np.uint8],
    buffer: NDArray[np.uint8],
    ends: NDArray[np.int64],
) -> None:
    at: Int = 0
    for n in range(chosen.shape[0]):
        row = rows[chosen[n]]
        for b in range(_TAG):
            buffer[at + b] = tag[b]
        check = at + _TAG
        at = check + _CHECK
        hashed = _HASH_START
        if row[0] != 0:
            newest, apart = np.uint64(row[0]), np.uint64(row[0] - row[1])
            at = _put(buffer, _put(buffer, at, newest), apart)
            hashed = _mix(_mix(hashed, newest), apart)
            at, hashed = _pack_tiles(row, plan, buffer, at, hashed)
            at, hashed = _pack_head(row, plan, buffer, at, hashed)
        for b in range(_CHECK):
            buffer[check + b] = np.uint8((hashed >> np.uint64(8 * b)) & np.uint64(255))
        ends[n] = at


@compiled
def _unpack(
    data: NDArray[np.uint8],
    ends: NDArray[np.int64],
    plan: KindPlan,
    tag: NDArray[np.uint8],
    rows: NDArray[np.int64],
    status: NDArray[np.int8],
) -> None:
    start = 0
    for r in range(rows.shape[0]):
        end = ends[r]
        row = rows[r]
        for c in range(plan.head):
            row[c] = 0
        if end > start:
            at = start + _TAG + _CHECK
            if at > end:
                status[r] = _DAMAGED
            else:
                same = True
                for b in range(_TAG):
                    same &= data[start + b] == tag[b]
                check = _NONE
                for b in range(_CHECK):
                    check |= np.uint64(data[start + _TAG + b]) << np.uint64(8 * b)
                if not same:
                    status[r] = FOREIGN
                elif not _unpack_one(data, at, end, plan, check, row):
                    status[r] = _DAMAGED
        start = end


@compiled
def _unpack_one(data: NDArray[np.uint8], at: Int, end: Int, plan: KindPlan, check: np.uint64, row: NDArray[np.int64]) -> bool:
    hashed = _HASH_START
    if at != end:
        stored, at = _get(data, at, end)
        apart, at = _get(data, at, end)
        if at < 0 or stored == _NONE or stored > _LATEST_MS or apart >= stored:
            return False
        hashed = _mix(_mix(hashed, stored), apart)
        row[0], row[1] = np.int64(stored), np.int64(stored) - np.int64(apart)
        at, hashed = _unpack_tiles(data, at, end, plan, row, hashed)
        if at >= 0:
            at, hashed = _unpack_head(data, at, end, plan, row, hashed)
    return bool(at >= 0 and hashed & _CHECKED == check)


@inlined
def _unpack_tiles(
    data: NDArray[np.uint8], at: Int, end: Int, plan: KindPlan, row: NDArray[np.int64], hashed: np.uint64
) -> tuple[Int, np.uint64]:
    """Read the blocks; the position after them is -1 if they are damaged."""
    newest = row[0]
    for b in range(len(plan.blocks)):
        block = plan.blocks[b]
        slots, width, times = block.slots, block.width, block.first_time
        head = (newest - 1) // block.tile_ms
        back, at = _get(data, at, end)
        if at < 0 or (slots < 64 and back >> np.uint64(slots) != _NONE):
            return np.int64(-1), hashed
        hashed = _mix(hashed, back)
        while back != _NONE:
            k = head - lowest(back)
            back &= back - _ONE
            used, at = _get(data, at, end)
            if at < 0 or k < 0 or used >> np.uint64(width) != _NONE:
                return np.int64(-1), hashed
            hashed = _mix(hashed, used)
            start = block.offset + (k % slots) * width
            row[HEADER + b] |= np.int64(_ONE << np.uint64(k % slots))
            for c in range(start, start + width):
                row[c] = 0
            while used != _NONE:
                n = lowest(used)
                used &= used - _ONE
                value, at = _get(data, at, end)
                if at < 0:
                    return np.int64(-1), hashed
                hashed = _mix(hashed, value)
                row[start + n] = newest - np.int64(value) if plan.times[times + n] else np.int64(value)
    return at, hashed


@inlined
def _unpack_head(
    data: NDArray[np.uint8], at: Int, end: Int, plan: KindPlan, row: NDArray[np.int64], hashed: np.uint64
) -> tuple[Int, np.uint64]:
    """Read the columns before the blocks; the position after them is -1 if they are damaged."""
    c, columns = np.int64(HEADER + len(plan.blocks)), plan.head
    while at < end:
        token, at = _get(data, at, end)
        zeros = np.int64(token >> np.uint64(2))
        stop = c + zeros + np.int64(token & np.uint64(3)) + 1
        if at < 0 or zeros > columns or stop > columns:
            return np.int64(-1), hashed
        hashed = _mix(hashed, token)
        c += zeros
        while c < stop:
            value, at = _get(data, at, end)
            if at < 0:
                return np.int64(-1), hashed
            hashed = _mix(hashed, value)
            row[c] = row[0] - np.int64(value) if plan.relative[c] else np.int64(value)
            c += 1
    return at, hashed
