"""Digests of many identifiers in one compiled call: BLAKE2b as RFC 7693 has it, keyed and personalised as Identity does.

hashlib takes 1 to 2 us for one, most of it in making objects; this takes a fraction, since the key's own block is compressed
once for all. That both agree is tested.
"""

from __future__ import annotations

import sys
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.jit import Int, allocating, compiled, inlined
from stream_app.privacy import DIGEST_BYTES, Pseudonymizer

__all__ = ["digest_words"]

assert sys.byteorder == "little", "BLAKE2b reads words with the low byte first; on this machine they would have to be turned"
_BLOCK: Final = 128  # bytes
_IV: Final = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    np.uint64,
)  # fmt: skip
_SIGMA: Final = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    ],
    np.int64,
)
# The eight mixings of a round: four columns, four diagonals.
_MIXED: Final = np.array(
    [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15], [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]],
    np.int64,
)
_TABLES: Final = (_IV, _SIGMA, _MIXED)


def digest_words(identity: Pseudonymizer, domain: str, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Digest N identifiers, as `Pseudonymizer.digest` does one.

    Args:
        identity: Has the key.
        domain: What the identifiers name.
        data: Their UTF-8, end to end.
        ends: (N,) number i is `data[ends[i - 1] : ends[i]]`.

    Returns:
        (N, 2) uint64, as EntityKeys has them; zeros for an empty identifier.
    """
    key = np.zeros(_BLOCK, np.uint8)
    key[: len(identity.key)] = np.frombuffer(identity.key, np.uint8)
    person = np.frombuffer(domain.encode().ljust(2 * 8, b"\0"), np.uint64)
    start = _IV.copy()
    start[0] ^= np.uint64(0x01010000 ^ (len(identity.key) << 8) ^ DIGEST_BYTES)
    start[6:] ^= person
    return _digests(start, key, data if len(data) else np.zeros(1, np.uint8), ends, _TABLES)


@inlined
def _turned(value: np.uint64, by: int) -> np.uint64:
    return np.uint64((value >> np.uint64(by)) | (value << np.uint64(64 - by)))


@compiled
def _compress(
    state: NDArray[np.uint64],
    message: NDArray[np.uint64],
    read: Int,
    is_last: bool,
    mixing: NDArray[np.uint64],
    tables: tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]],
) -> None:
    iv, sigma, mixed = tables
    for i in range(8):
        mixing[i], mixing[i + 8] = state[i], iv[i]
    mixing[12] ^= np.uint64(read)
    if is_last:
        mixing[14] = ~mixing[14]
    for r in range(12):
        for g in range(8):
            a, b, c, d = mixed[g, 0], mixed[g, 1], mixed[g, 2], mixed[g, 3]
            va, vb, vc, vd = mixing[a], mixing[b], mixing[c], mixing[d]
            va += vb + message[sigma[r, 2 * g]]
            vd = _turned(vd ^ va, 32)
            vc += vd
            vb = _turned(vb ^ vc, 24)
            va += vb + message[sigma[r, 2 * g + 1]]
            vd = _turned(vd ^ va, 16)
            vc += vd
            vb = _turned(vb ^ vc, 63)
            mixing[a], mixing[b], mixing[c], mixing[d] = va, vb, vc, vd
    for i in range(8):
        state[i] ^= mixing[i] ^ mixing[i + 8]


@allocating
def _digests(
    start: NDArray[np.uint64],
    key: NDArray[np.uint8],
    data: NDArray[np.uint8],
    ends: NDArray[np.int64],
    tables: tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]],
) -> NDArray[np.uint64]:
    block, mixing, state = np.zeros(_BLOCK, np.uint8), np.zeros(16, np.uint64), np.zeros(8, np.uint64)
    message, found = block.view(np.uint64), np.zeros((len(ends), 2), np.uint64)
    block[:] = key
    _compress(start, message, _BLOCK, False, mixing, tables)
    at = 0
    for i in range(len(ends)):
        if at == ends[i]:
            continue
        state[:] = start
        read = _BLOCK
        while at < ends[i]:
            size = min(_BLOCK, ends[i] - at)
            block[:size] = data[at : at + size]
            block[size:] = 0
            at += size
            read += size
            _compress(state, message, read, at == ends[i], mixing, tables)
        found[i, 0], found[i, 1] = state[0], state[1]
    return found
