"""One entity's state in words: for `explain`, and for an oracle that compares state exactly.

    {"newest_ms": 1700000000000, "first_ms": 1699990000000,
     "tiles": {"views/1h": {1699999800000: 3}, "spend/1d": {1699999200000: 1999}},
     "distinct": {"category/1d": {1699999200000: [3, 77]}},
     "sequence": [{"time_ms": ..., "item": 812, "category": 17, "kind": "view"}, ...]}

Keys of tiles are the tiles' starts in ms; empty tiles are left out. Sums are integers (money in cents); a distinct count shows
the bits that are set. The sequence is in order of arrival, oldest first; only kinds that keep one have it. An entity without a
past has None for both times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.contract import SEQUENCE_LENGTH
from stream_app.events import KINDS
from stream_app.features.layout import Block, KindLayout

__all__ = ["describe_row"]


def describe_row(layout: KindLayout, row: NDArray[np.int64]) -> dict[str, object]:
    """Decode one row (W,) int64 into the form above."""
    empty = row[0] == 0
    tiles: dict[str, dict[int, int]] = {}
    distinct: dict[str, dict[int, list[int]]] = {}
    for block in layout.blocks:
        records = {} if empty else _records(block, row)
        for column, measure in enumerate(block.sums):
            found = {start: int(record[column]) for start, record in records.items()}
            tiles[f"{measure}/{block.window.name}"] = {start: total for start, total in found.items() if total}
        for measure, words, at in block.distincts:
            bits = {start: _bits(record[at : at + words]) for start, record in records.items()}
            distinct[f"{measure}/{block.window.name}"] = {start: on for start, on in bits.items() if on}
    described: dict[str, object] = {
        "newest_ms": None if empty else int(row[0]) - 1,
        "first_ms": None if empty else int(row[1]) - 1,
        "tiles": tiles,
        "distinct": distinct,
    }
    if layout.kind.sequence:
        described["sequence"] = _sequence(row[layout.plan.sequence :])
    return described


def _records(block: Block, row: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    tile_ms, slots = block.window.tile_ms, block.window.slots
    head = (int(row[0]) - 1) // tile_ms
    kept = range(max(0, head - slots + 1), head + 1)
    table = row[block.offset : block.offset + slots * block.width].reshape(slots, block.width)
    used: list[bool] = np.asarray(
        table.any(axis=1)
    ).tolist()  # most tiles are empty, and looking at each would take most of the time
    return {k * tile_ms: table[k % slots] for k in kept if used[k % slots]}


def _bits(words: NDArray[np.int64]) -> list[int]:
    return [64 * i + bit for i, word in enumerate(words.tolist()) for bit in range(64) if word >> bit & 1]


def _sequence(part: NDArray[np.int64]) -> list[dict[str, object]]:
    total, entries = int(part[0]), part[1:].reshape(SEQUENCE_LENGTH, 4).tolist()
    kept = [entries[n % SEQUENCE_LENGTH] for n in range(max(0, total - SEQUENCE_LENGTH), total)]
    return [
        {"time_ms": time - 1, "item": item, "category": category, "kind": KINDS[kind - 1]} for time, item, category, kind in kept
    ]
