"""State rows as bytes: what the store keeps of one entity, packed and unpacked for a whole batch in one compiled call.

    8 bytes  tag of the layout (a blob of another layout reads as empty: the entity starts anew)
    4 bytes  check: the low half of a hash over all that follows
    then, until the row's columns are all given, tokens. A token is a varint (LEB128) `zeros << 2 | literals - 1`: so many zero
    columns, then 1 to 4 columns each as a varint. Zeros at the end of a row are left out.

Values are non-negative but for bitmaps, whose highest bit may be set; a varint holds the two's complement, at most 10 bytes.
Times are stored as distance from the newest event. One state has one encoding, so equal states are equal bytes. A blob that is
cut, changed or made up is refused; nothing is read or written beyond the buffers (the fuzz test runs with bounds checked).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_app.errors import ContractError
from stream_app.features.compiled import compiled, inlined
from stream_app.features.layout import KindLayout

__all__ = ["pack_rows", "unpack_rows"]

_TAG, _CHECK = 8, 4
_CHECKED = np.uint64(0xFFFFFFFF)
_VARINT = 10  # bytes of the longest varint of 64 bits
_HASH_START, _HASH_FACTOR = np.uint64(0xCBF29CE484222325), np.uint64(0x9E3779B97F4A7C15)


def pack_rows(layout: KindLayout, rows: NDArray[np.int64]) -> list[bytes]:
    """Encode rows (N, W) int64, one blob each; a row that is all zeros gives a blob that reads as all zeros."""
    count, width = rows.shape
    # A literal costs at most 10 bytes and a token of its own at most 10 more; columns bound both.
    buffer = np.empty(count * (_TAG + _CHECK + width * 2 * _VARINT), np.uint8)
    ends = np.empty(count, np.int64)
    _pack(rows, layout.plan.relative, np.frombuffer(layout.tag, np.uint8), buffer, ends)
    packed = buffer[: int(ends[-1]) if count else 0].tobytes()
    blobs, start = [], 0
    for end in ends.tolist():
        blobs.append(packed[start:end])
        start = end
    return blobs


def unpack_rows(layout: KindLayout, blobs: Sequence[bytes | None]) -> NDArray[np.int64]:
    """Decode blobs into rows (N, W) int64. None, and a blob of another layout, give zeros.

    Raises:
        ContractError: a blob of this layout is damaged.
    """
    rows = np.zeros((len(blobs), layout.plan.width), np.int64)
    given = [blob or b"" for blob in blobs]
    data = np.frombuffer(b"".join(given) or b"\0", np.uint8)  # an empty buffer has no address to pass
    ends = np.cumsum(np.array([len(b) for b in given], np.int64), dtype=np.int64)
    bad = _unpack(data, ends, layout.plan.relative, np.frombuffer(layout.tag, np.uint8), rows)
    if bad >= 0:
        raise ContractError(
            f"the stored state of {layout.kind.name} number {bad} of {len(blobs)} read is damaged: {len(given[bad])} bytes that "
            f"begin with {given[bad][:12].hex()} do not decode to {layout.plan.width} columns of layout {layout.tag.hex()}.\n"
            "Operator action: another program wrote to the keys, or the store lost bytes; restore it, or delete the key and "
            "replay its events."
        )
    return rows


@inlined
def _mix(hashed: np.uint64, value: np.uint64) -> np.uint64:
    mixed = (hashed ^ value) * _HASH_FACTOR
    return mixed ^ (mixed >> np.uint64(29))


@inlined
def _put(buffer: NDArray[np.uint8], at: int, value: np.uint64) -> int:
    while value >= np.uint64(128):
        buffer[at] = np.uint8((value & np.uint64(127)) | np.uint64(128))
        value >>= np.uint64(7)
        at += 1
    buffer[at] = np.uint8(value)
    return at + 1


@compiled
def _get_long(data: NDArray[np.uint8], at: int, end: int) -> tuple[np.uint64, int]:
    """Read a varint of 2 to 10 bytes before `end`; the position is -1 if there is none, or if it is longer than need be."""
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
def _stored(row: NDArray[np.int64], c: int, relative: NDArray[np.bool_]) -> np.uint64:
    # Times (one higher than the ms they mean) are never after the newest: the distance is 1 or more, so 0 stays "none".
    return np.uint64(row[0] + 1 - row[c] if relative[c] and row[c] != 0 else row[c])


@compiled
def _pack(
    rows: NDArray[np.int64],
    relative: NDArray[np.bool_],
    tag: NDArray[np.uint8],
    buffer: NDArray[np.uint8],
    ends: NDArray[np.int64],
) -> None:
    at, width = 0, rows.shape[1]
    for r in range(rows.shape[0]):
        row = rows[r]
        for b in range(_TAG):
            buffer[at + b] = tag[b]
        check = at + _TAG
        at = check + _CHECK
        hashed = _HASH_START
        c = 0
        while True:
            start = c
            while c < width and row[c] == 0:
                c += 1
            if c == width:
                break
            stop = c
            while stop < min(width, c + 4) and row[stop] != 0:
                stop += 1
            token = np.uint64((c - start) << 2 | (stop - c - 1))
            at = _put(buffer, at, token)
            hashed = _mix(hashed, token)
            while c < stop:
                value = _stored(row, c, relative)
                at = _put(buffer, at, value)
                hashed = _mix(hashed, value)
                c += 1
        for b in range(_CHECK):
            buffer[check + b] = np.uint8((hashed >> np.uint64(8 * b)) & np.uint64(255))
        ends[r] = at


@compiled
def _unpack(
    data: NDArray[np.uint8],
    ends: NDArray[np.int64],
    relative: NDArray[np.bool_],
    tag: NDArray[np.uint8],
    rows: NDArray[np.int64],
) -> int:
    """Decode all; return the number of the first damaged blob, or -1."""
    start = 0
    for r in range(rows.shape[0]):
        end = ends[r]
        if end > start:
            at = start + _TAG + _CHECK
            if at > end:
                return r
            same = True
            for b in range(_TAG):
                same &= data[start + b] == tag[b]
            check = np.uint64(0)
            for b in range(_CHECK):
                check |= np.uint64(data[start + _TAG + b]) << np.uint64(8 * b)
            if same and not _unpack_one(data, at, end, relative, check, rows[r]):
                return r
        start = end
    return -1


@inlined
def _unpack_one(
    data: NDArray[np.uint8],
    at: int,
    end: int,
    relative: NDArray[np.bool_],
    check: np.uint64,
    row: NDArray[np.int64],
) -> bool:
    hashed = _HASH_START
    c, width = np.int64(0), row.shape[0]
    while at < end:
        token = np.uint64(data[at])
        if token < np.uint64(128):
            at += 1
        else:
            token, at = _get_long(data, at, end)
        zeros = np.int64(token >> np.uint64(2))
        stop = c + zeros + np.int64(token & np.uint64(3)) + 1
        if at < 0 or zeros > width or stop > width:
            return False
        hashed = _mix(hashed, token)
        c += zeros
        while c < stop:
            if at >= end:
                return False
            value = np.uint64(data[at])
            if value < np.uint64(128):
                at += 1
            else:
                value, at = _get_long(data, at, end)
                if at < 0:
                    return False
            hashed = _mix(hashed, value)
            row[c] = row[0] + 1 - np.int64(value) if relative[c] else np.int64(value)
            c += 1
    return bool(hashed & _CHECKED == check)
