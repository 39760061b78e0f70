"""Compile a catalogue into arrays: where each tile stands in a row of state, and what the fold does with it.

The state of one entity is one row of int64, all zeros when empty:

    [ newest_ms + 1 | first_ms + 1 | block | block | ... | events in sequence | 32 x (time_ms + 1, item, category, kind + 1) ]

A *block* holds one window of the kind: `slots` records, tile k in record `k % slots`. A record holds the sums of the window's
measures, then the bitmaps of what it counts distinctly; both merge cell by cell, by addition and by OR. Features share them.
Columns of one slot stand together, so that a blob has few runs of zeros and a tile is cleared in one stroke.

Everything is integer: sums do not depend on order, replicas merge exactly, an oracle can compare bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.contract import CATEGORY_BUCKETS, CONTEXT_COLUMNS, ITEM_BUCKETS, SEQUENCE_LENGTH
from stream_app.events import KINDS, PLATFORMS, SCENES
from stream_app.features.declare import EVENT, Catalogue, EntityKind, Feature, Window

__all__ = ["AGGREGATION_CODES", "HEADER", "Block", "KindLayout", "KindPlan", "catalogue_hash", "kind_layout"]

HEADER: Final = 2  # newest_ms + 1, first_ms + 1; 0 = no event yet
_SEMANTICS: Final = 1  # raise it when the same catalogue begins to mean other numbers
_BLOB_FORMAT: Final = 1  # raise it when the bytes of a blob change

# Codes of fold.py's switch.
AGGREGATION_CODES: Final = {
    "count": 0, "sum": 0, "mean": 1, "rate": 2, "ratio": 3, "distinct": 4, "recency": 5, "age": 6, "own": 7,
}  # fmt: skip


class KindPlan(NamedTuple):
    """What the compiled loops read. All arrays are C-contiguous; integers int64, reals float64.

    blocks (N, 6): tile_ms, tiles, slots, width of a record, its sums, column of the first record.
    cells (A,): measure of each sum of each block's record, in order of blocks; -1 for the cells of bitmaps.
    distincts (D, 4): block, first word within its record, words, measure.
    codes (F, 6): aggregation code, accumulator, accumulator of `per` (distinct: words), measure, column of `dense`, row of
        `estimates`.
    reals (F, 6): scale of the measure, prior numerator, prior denominator, default, low, high.
    estimates (E, 1 + most bits): linear counting's estimate for each count of set bits.
    relative (W,): whether a blob stores the column as its distance from the newest event.
    width: columns of a row. sequence: first column of the sequence, -1 for none.
    """

    blocks: NDArray[np.int64]
    cells: NDArray[np.int64]
    distincts: NDArray[np.int64]
    codes: NDArray[np.int64]
    reals: NDArray[np.float64]
    estimates: NDArray[np.float64]
    relative: NDArray[np.bool_]
    width: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Block:
    """One window of a kind: its sums' measures, its distinct counts as (measure, words, first word in the record), its place."""

    window: Window
    sums: tuple[str, ...]
    distincts: tuple[tuple[str, int, int], ...]
    offset: int
    accumulator: int  # of its first cell, among the cells of all blocks

    @property
    def width(self) -> int:
        """Columns of one record."""
        return len(self.sums) + sum(words for _, words, _ in self.distincts)


@dataclass(frozen=True, slots=True)
class KindLayout:
    """One entity kind, compiled. `tag` are the first 8 bytes of its blobs; blobs of another tag read as empty."""

    kind: EntityKind
    blocks: tuple[Block, ...]
    features: tuple[Feature, ...]
    columns: tuple[int, ...]  # of `features` in the dense tensor
    plan: KindPlan
    tag: bytes


def catalogue_hash(catalogue: Catalogue) -> str:
    """Return the first 16 hex digits of the sha256 of all that the numbers depend on; prose, units and TTLs are not in it."""
    return hashlib.sha256(_canonical(
        {
            "semantics": _SEMANTICS,
            "tensors": [SEQUENCE_LENGTH, ITEM_BUCKETS, CATEGORY_BUCKETS, CONTEXT_COLUMNS, KINDS, SCENES, PLATFORMS],
            "kinds": [[k.name, k.shared, k.sequence] for k in catalogue.kinds],
            "windows": [[w.name, w.length_ms, w.tile_ms, w.spare_tiles] for w in catalogue.windows],
            "measures": [[m.name, m.field, m.kinds] for m in catalogue.measures],
            "features": [
                [f.name, f.entity, f.aggregation, f.measure, f.per, f.window, f.prior, f.words, f.default, f.low, f.high]
                for f in catalogue.features
            ],
        }
    )).hexdigest()[:16]  # fmt: skip


def kind_layout(catalogue: Catalogue, kind: EntityKind) -> KindLayout:
    """Compile one entity kind. Features of the event itself are computed along with the first kind."""
    blocks = _blocks(catalogue, kind)
    entities = (kind.name, EVENT) if kind is catalogue.kinds[0] else (kind.name,)
    columns = tuple(i for i, f in enumerate(catalogue.features) if f.entity in entities)
    features = tuple(catalogue.features[i] for i in columns)
    sequence = HEADER + sum(b.width * b.window.slots for b in blocks) if kind.sequence else -1
    width = sequence + 1 + 4 * SEQUENCE_LENGTH if kind.sequence else HEADER + sum(b.width * b.window.slots for b in blocks)
    codes, reals, estimates = _switch(catalogue, blocks, features, columns)
    plan = KindPlan(
        blocks=_table([[b.window.tile_ms, b.window.tiles, b.window.slots, b.width, len(b.sums), b.offset] for b in blocks], 6),
        cells=np.array([c for b in blocks for c in _cells(catalogue, b)], np.int64),
        distincts=_table(
            [[i, at, words, _index(catalogue, name)] for i, b in enumerate(blocks) for name, words, at in b.distincts], 4
        ),
        codes=codes,
        reals=reals,
        estimates=estimates,
        relative=_relative(width, sequence),
        width=width,
        sequence=sequence,
    )
    return KindLayout(kind, blocks, features, columns, plan, _tag(catalogue, kind, blocks))


def _blocks(catalogue: Catalogue, kind: EntityKind) -> tuple[Block, ...]:
    blocks: list[Block] = []
    offset, accumulator = HEADER, 0
    for window in catalogue.windows:
        using = [f for f in catalogue.features if f.entity == kind.name and f.windowed and f.window == window.name]
        summed = {m for f in using if f.aggregation != "distinct" for m in (f.measure, f.per)}
        counted: dict[str, int] = {}
        for f in using:
            if f.aggregation == "distinct":
                counted[f.measure] = max(f.words, counted.get(f.measure, 0))
        if not using:
            continue
        # In order of the measures, not of the features: reordering features leaves the state readable.
        sums = tuple(m.name for m in catalogue.measures if m.name in summed)
        distincts, at = [], len(sums)
        for measure in catalogue.measures:
            if measure.name in counted:
                distincts.append((measure.name, counted[measure.name], at))
                at += counted[measure.name]
        block = Block(window, sums, tuple(distincts), offset, accumulator)
        blocks.append(block)
        offset += block.width * window.slots
        accumulator += block.width
    return tuple(blocks)


def _cells(catalogue: Catalogue, block: Block) -> list[int]:
    return [_index(catalogue, name) for name in block.sums] + [-1] * (block.width - len(block.sums))


def _switch(
    catalogue: Catalogue, blocks: tuple[Block, ...], features: tuple[Feature, ...], columns: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    by_window = {b.window.name: b for b in blocks}
    sizes = sorted({words for b in blocks for _, words, _ in b.distincts})
    codes, reals = [], []
    for feature, column in zip(features, columns, strict=True):
        block = by_window.get(feature.window)
        here, per, row = 0, 0, 0
        if feature.aggregation == "distinct" and block is not None:
            words, at = next((w, a) for name, w, a in block.distincts if name == feature.measure)
            here, per, row = block.accumulator + at, words, sizes.index(words)
        elif block is not None:
            here = block.accumulator + block.sums.index(feature.measure)
            per = block.accumulator + block.sums.index(feature.per) if feature.per else 0
        measure = _index(catalogue, feature.measure) if feature.measure else 0
        scale = 0.01 if feature.measure and catalogue.measure(feature.measure).is_money else 1.0
        codes.append([AGGREGATION_CODES[feature.aggregation], here, per, measure, column, row])
        reals.append([scale, *feature.prior, feature.default, feature.low, feature.high])
    return _table(codes, 6), np.array(reals, np.float64).reshape(len(reals), 6), _estimates(sizes)


def _estimates(sizes: list[int]) -> NDArray[np.float64]:
    """Linear counting (Whang, Vander-Zanden, Taylor, 1990): n = -m ln(empty / m), rounded, for m = 64 * words bits.

    A full bitmap, where the formula has no value, reads as the last one before it. A table keeps logarithms, which differ
    between machines in the last bit, out of the vector.
    """
    table = np.zeros((max(1, len(sizes)), 1 + 64 * max(sizes, default=0)), np.float64)
    for row, words in enumerate(sizes):
        bits = 64 * words
        for on in range(bits + 1):
            table[row, on] = float(round(bits * math.log(bits / max(1, bits - on))))
    return table


def _relative(width: int, sequence: int) -> NDArray[np.bool_]:
    relative = np.zeros(width, np.bool_)
    relative[1] = True
    if sequence >= 0:
        relative[sequence + 1 :: 4] = True
    return relative


def _tag(catalogue: Catalogue, kind: EntityKind, blocks: tuple[Block, ...]) -> bytes:
    def meaning(name: str) -> list[object]:
        measure = catalogue.measure(name)
        return [measure.name, measure.field, measure.kinds]

    shape = [
        [
            [b.window.length_ms, b.window.tile_ms, b.window.spare_tiles],
            [meaning(name) for name in b.sums],
            [[meaning(name), words] for name, words, _ in b.distincts],
        ]
        for b in blocks
    ]
    described = {"format": _BLOB_FORMAT, "kind": kind.name, "sequence": SEQUENCE_LENGTH * kind.sequence, "blocks": shape}
    return hashlib.sha256(_canonical(described)).digest()[:8]


def _index(catalogue: Catalogue, measure: str) -> int:
    return next(i for i, m in enumerate(catalogue.measures) if m.name == measure)


def _table(rows: list[list[int]], width: int) -> NDArray[np.int64]:
    return np.array(rows, np.int64).reshape(len(rows), width)


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
