"""State that another catalogue wrote: what both have in common goes over, the rest of the new shape is empty.

A cell goes over if the window (length, tile, spare tiles), the operation, the measure's meaning and, of a distinct set, the words
are the same; a last value if its measure is; a histogram if measure and cells are; the session if the gap is, sum by sum; the
sequence and the queries if both keep them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_app.features.state.layout import HEADER, KindLayout
from stream_app.features.state.state_schema import Block, StateCell

__all__ = ["migrate_row"]


def migrate_row(old: KindLayout, row: NDArray[np.int64], new: KindLayout) -> NDArray[np.int64]:
    """Return the state (W,) of the new shape that a state (W',) of the old one gives."""
    out = np.zeros(new.plan.width, np.int64)
    out[:HEADER] = row[:HEADER]
    for key, at in new.at.lasts.items():
        if key in old.at.lasts:
            out[at : at + 2] = row[old.at.lasts[key] : old.at.lasts[key] + 2]
    for histogram in new.shape.histograms:
        if histogram in old.shape.histograms:
            to, start = new.at.histograms[histogram.measure], old.at.histograms[histogram.measure]
            out[to : to + histogram.cells] = row[start : start + histogram.cells]
    _session(old, row, new, out)
    if old.shape.sequence and new.shape.sequence:
        out[new.at.sequence : new.at.head] = row[old.at.sequence : old.at.head]
    for number, block in enumerate(new.shape.blocks):
        for theirs, before in enumerate(old.shape.blocks):
            if before.window == block.window:
                _tiles(old, theirs, row, new, number, out)
    return out


def _session(old: KindLayout, row: NDArray[np.int64], new: KindLayout, out: NDArray[np.int64]) -> None:
    if new.at.session < 0 or old.shape.session_gap_ms != new.shape.session_gap_ms:
        return
    out[new.at.session : new.at.session + 2] = row[old.at.session : old.at.session + 2]
    for number, key in enumerate(new.shape.session):
        if key in old.shape.session:
            out[new.at.session + 2 + number] = row[old.at.session + 2 + old.shape.session.index(key)]


def _tiles(old: KindLayout, theirs: int, row: NDArray[np.int64], new: KindLayout, number: int, out: NDArray[np.int64]) -> None:
    before, block = old.shape.blocks[theirs], new.shape.blocks[number]
    columns = _places(before)
    mask = int(row[HEADER + theirs]) & 0xFFFFFFFFFFFFFFFF
    for slot in range(block.window.slots):
        if not mask >> slot & 1:
            continue
        start = old.at.blocks[theirs] + slot * before.width
        to = new.at.blocks[number] + slot * block.width
        for cell, column in _places(block).items():
            if cell in columns:
                found = row[start + columns[cell] : start + columns[cell] + cell.columns]
                out[to + column : to + column + cell.columns] = found
        if out[to : to + block.width].any():
            out[HEADER + number] |= np.uint64(1 << slot).astype(np.int64)


def _places(block: Block) -> dict[StateCell, int]:
    places, column = {}, 0
    for cell in block.cells:
        places[cell] = column
        column += cell.columns
    return places
