"""Migration of state that another catalogue wrote: copy the common parts, leave the rest of the new schema empty.

A cell is copied if the window (length, tile, spare tiles), the operation, the measure's meaning and, for a distinct set, the
words are equal; a last value if its measure is; a histogram if measure and cells are; a session if the gap is, sum by sum; the
sequence and the queries if both schemas have them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_app.features.state.layout import KindLayout
from stream_app.features.state.plan import HEADER
from stream_app.features.state.state_schema import Block, StateCell


def migrate_row(old: KindLayout, row: NDArray[np.int64], new: KindLayout) -> NDArray[np.int64]:
    """Return a state (W',) of the old schema as a state (W,) of the new one."""
    out = np.zeros(new.plan.width, np.int64)
    out[:HEADER] = row[:HEADER]
    for key, at in new.at.lasts.items():
        if key in old.at.lasts:
            out[at : at + 2] = row[old.at.lasts[key] : old.at.lasts[key] + 2]
    for histogram in new.schema.histograms:
        if histogram in old.schema.histograms:
            to, start = new.at.histograms[histogram.measure], old.at.histograms[histogram.measure]
            out[to : to + histogram.cells] = row[start : start + histogram.cells]
    _session(old, row, new, out)
    if old.schema.sequence and new.schema.sequence:
        out[new.at.sequence : new.at.head] = row[old.at.sequence : old.at.head]
    for number, block in enumerate(new.schema.blocks):
        for old_number, before in enumerate(old.schema.blocks):
            if before.window == block.window:
                _tiles(old, old_number, row, new, number, out)
    return out


def _session(old: KindLayout, row: NDArray[np.int64], new: KindLayout, out: NDArray[np.int64]) -> None:
    if new.at.session < 0 or old.schema.session_gap_ms != new.schema.session_gap_ms:
        return
    out[new.at.session : new.at.session + 2] = row[old.at.session : old.at.session + 2]
    for number, key in enumerate(new.schema.session):
        if key in old.schema.session:
            out[new.at.session + 2 + number] = row[old.at.session + 2 + old.schema.session.index(key)]


def _tiles(
    old: KindLayout, old_number: int, row: NDArray[np.int64], new: KindLayout, number: int, out: NDArray[np.int64]
) -> None:
    before, block = old.schema.blocks[old_number], new.schema.blocks[number]
    columns = _places(before)
    mask = int(row[HEADER + old_number]) & 0xFFFFFFFFFFFFFFFF
    for slot in range(block.window.slots):
        if not mask >> slot & 1:
            continue
        start = old.at.blocks[old_number] + slot * before.width
        to = new.at.blocks[number] + slot * block.width
        for cell, column in _places(block).items():
            if cell in columns:
                copied = row[start + columns[cell] : start + columns[cell] + cell.columns]
                out[to + column : to + column + cell.columns] = copied
        if out[to : to + block.width].any():
            out[HEADER + number] |= np.uint64(1 << slot).astype(np.int64)


def _places(block: Block) -> dict[StateCell, int]:
    places, column = {}, 0
    for cell in block.cells:
        places[cell] = column
        column += cell.columns
    return places
