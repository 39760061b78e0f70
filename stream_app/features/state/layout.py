"""Compile a shape and the features that read it into arrays: where each cell stands in a row of state, and what the fold does.

The state of one entity is one row of int64:

    [ newest_ms + 1 | first_ms + 1 | one word of bits a block | lasts | histograms | session | sequences | blocks ... ]

A *block* holds one window of the kind: `slots` records, tile k in record `k % slots`; bit `k % slots` of the block's word says
that tile k holds something. Where it is not set, the record's columns mean nothing, whatever they hold: so an entity with few
tiles costs few columns to clear, read and store. Everything before the blocks is zero where it is empty.

A record's cells stand in order of their operation: sums, clipped sums, squares (all merge by addition), max, latest (by the
greater), min, first (by the lesser that is not 0), distinct sets. Everything is integer: sums do not depend on order, replicas
merge exactly, an oracle can compare bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.contract import CATEGORY_BUCKETS, CONTEXT_COLUMNS, INPUTS, ITEM_BUCKETS
from stream_app.errors import ContractError
from stream_app.events import KINDS, PLATFORMS, SCENES
from stream_app.features.aggregations import SPECS
from stream_app.features.aggregations.decayed import DECAYED, weights
from stream_app.features.aggregations.distinct import MOST_LISTED, linear_counts
from stream_app.features.aggregations.own import OWN
from stream_app.features.aggregations.ratio import RATIO
from stream_app.features.aggregations.recency import RECENCY, RECENCY_OF
from stream_app.features.declarations import EVENT, Catalogue, EntityKind, Feature
from stream_app.features.sequence import ENTRY, QUERIES, QUERY_ENTRY, SEQUENCE
from stream_app.features.state.state_schema import OPERATIONS, Block, MeasureKey, Need, StateSchema, shape_of

__all__ = ["HEADER", "BlockColumns", "KindLayout", "KindPlan", "catalogue_hash", "columns_of", "kind_layout", "stateless_layout"]

HEADER: Final = 2  # newest_ms + 1, first_ms + 1; 0 = no event yet
_SEMANTICS: Final = 3  # raise it when the same catalogue begins to mean other numbers
_MOST_WIDTH: Final = 62  # which cells of a record are stored is a varint of bits


class KindPlan(NamedTuple):
    """What the compiled loops read. All arrays are C-contiguous; integers int64, reals float64.

    blocks (N, 18): tile_ms, tiles, slots, width of a record, column of the first record; then where in the record clipped sums,
        squares, max, latest, min, first, distinct sets begin; its first accumulator, its first row of `times`; first and end of
        its rows of `sets` and of `decays`.
    cells (A,): measure of each accumulator, a block's scalar cells together, in order of blocks.
    sets (D, 4): block, column within its record, words, measure.
    decays (K, 4): block, column within its record, row of `weights`, accumulator.
    weights (R, T): weight of a tile by its age in tiles.
    codes (F, 8): aggregation code, column of `dense`, operands a, b, c, measure, words or cells, top.
    reals (F, 7): scale, prior numerator, prior denominator, default, low, high, factor (trend: base length / window length).
    always (G,): rows of `codes` that need no past.
    lasts (L, 2): column, measure. histograms (H, 3): column, cells, measure. session (S,): measures.
    places (6,): columns of session, sequence, queries (-1: none), session_gap_ms, accumulators, columns before the blocks.
    linear (17, 256): aggregations.distinct.linear_counts.
    relative (P,): whether a blob stores the column, of those before the blocks, as its distance from the newest event.
    times (C,): the same for the columns of a record, block after block.
    width: columns of a row.
    """

    blocks: NDArray[np.int64]
    cells: NDArray[np.int64]
    sets: NDArray[np.int64]
    decays: NDArray[np.int64]
    weights: NDArray[np.int64]
    codes: NDArray[np.int64]
    reals: NDArray[np.float64]
    always: NDArray[np.int64]
    lasts: NDArray[np.int64]
    histograms: NDArray[np.int64]
    session: NDArray[np.int64]
    places: NDArray[np.int64]
    linear: NDArray[np.float64]
    relative: NDArray[np.bool_]
    times: NDArray[np.bool_]
    width: int


@dataclass(frozen=True, slots=True)
class BlockColumns:
    """Where each part of a shape stands in a row."""

    lasts: dict[MeasureKey, int]
    histograms: dict[MeasureKey, int]
    session: int
    sequence: int
    queries: int
    head: int  # columns before the blocks
    blocks: tuple[int, ...]
    width: int


@dataclass(frozen=True, slots=True)
class KindLayout:
    """One entity kind, compiled. `tag` are the first 4 bytes of its blobs."""

    kind: str
    shape: StateSchema
    at: BlockColumns
    features: tuple[Feature, ...]
    columns: tuple[int, ...]  # of `features` in the dense tensor
    plan: KindPlan
    tag: bytes


def catalogue_hash(catalogue: Catalogue) -> str:
    """Return the first 16 hex digits of the sha256 of all that the numbers depend on; prose, units and TTLs are not in it."""
    tensors = [[spec.name, spec.dtype, spec.shape] for spec in INPUTS]
    described = {
        "semantics": _SEMANTICS,
        "tensors": [tensors, ITEM_BUCKETS, CATEGORY_BUCKETS, CONTEXT_COLUMNS, KINDS, SCENES, PLATFORMS],
        "kinds": [[k.name, k.shared, k.sequence, k.session_gap_ms] for k in catalogue.kinds],
        "windows": [[w.name, w.length_ms, w.tile_ms, w.spare_tiles] for w in catalogue.windows],
        "measures": [[m.name, m.field, m.kinds] for m in catalogue.measures],
        "features": [
            [f.name, f.entity, f.aggregation, f.measure, f.per, f.window, f.base, f.prior, f.words, f.half_life_ms, f.cells,
             f.top, f.default, f.low, f.high]
            for f in catalogue.features
        ],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(described, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def columns_of(shape: StateSchema) -> BlockColumns:
    """Number the columns of a row."""
    at = HEADER + len(shape.blocks)
    lasts: dict[MeasureKey, int] = {}
    for key in shape.lasts:
        lasts[key] = at
        at += 2
    histograms: dict[MeasureKey, int] = {}
    for histogram in shape.histograms:
        histograms[histogram.measure] = at
        at += histogram.cells
    session = sequence = queries = -1
    if shape.session_gap_ms:
        session = at
        at += 2 + len(shape.session)
    if shape.sequence:
        sequence = at
        queries = sequence + 1 + SEQUENCE * ENTRY
        at = queries + 1 + QUERIES * QUERY_ENTRY
    head, starts = at, []
    for block in shape.blocks:
        starts.append(at)
        at += block.width * block.window.slots
    return BlockColumns(lasts, histograms, session, sequence, queries, head, tuple(starts), at)


def kind_layout(catalogue: Catalogue, kind: EntityKind) -> KindLayout:
    """Compile one entity kind. Features of the event itself are computed along with the first kind."""
    entities = (kind.name, EVENT) if kind is catalogue.kinds[0] else (kind.name,)
    columns = tuple(i for i, f in enumerate(catalogue.features) if f.entity in entities)
    features = tuple(catalogue.features[i] for i in columns)
    needs = [need for f in features for need in SPECS[f.aggregation].needs(f)]
    return _layout(catalogue, shape_of(catalogue, kind, needs), features, columns)


def stateless_layout(shape: StateSchema) -> KindLayout:
    """Compile a shape without features: enough to read blobs that another catalogue wrote."""
    return _layout(None, shape, (), ())


def _layout(
    catalogue: Catalogue | None, shape: StateSchema, features: tuple[Feature, ...], columns: tuple[int, ...]
) -> KindLayout:
    at = columns_of(shape)
    numbers = {MeasureKey.of(m): i for i, m in enumerate(catalogue.measures)} if catalogue else {}
    blocks: list[list[int]] = []
    cells: list[int] = []
    sets: list[list[int]] = []
    times: list[bool] = []
    for number, (block, start) in enumerate(zip(shape.blocks, at.blocks, strict=True)):
        if block.width > _MOST_WIDTH:
            raise ContractError(
                f"the {block.window.length_ms} ms window of {shape.kind} needs {block.width} columns a tile, at most "
                f"{_MOST_WIDTH} can be kept; take features away, or give some another window"
            )
        w = block.window
        blocks.append([w.tile_ms, w.tiles, w.slots, block.width, start, *_borders(block), len(cells), len(times)])
        column = 0
        for cell in block.cells:
            measure = numbers.get(cell.measure, 0)
            if cell.op == "distinct":
                sets.append([number, column, cell.words, measure])
            else:
                cells.append(measure)
            times += [cell.op in ("latest", "first")] * cell.columns
            column += cell.columns
    operands = _Operands(catalogue, shape, at, blocks, sets, len(cells))
    codes, reals = operands.switch(features, columns)
    operands.decays.sort()
    for number, row in enumerate(blocks):
        for table in (sets, operands.decays):
            row += [sum(r[0] < number for r in table), sum(r[0] <= number for r in table)]
    plan = KindPlan(
        blocks=_table(blocks, 18),
        cells=np.array(cells, np.int64),
        sets=_table(sets, 4),
        decays=_table(operands.decays, 4),
        weights=_padded(operands.weights),
        codes=codes,
        reals=reals,
        always=np.array([i for i, row in enumerate(codes.tolist()) if row[0] in (OWN, RATIO)], np.int64),
        lasts=_table([[column, numbers.get(key, 0)] for key, column in at.lasts.items()], 2),
        histograms=_table([[at.histograms[h.measure], h.cells, numbers.get(h.measure, 0)] for h in shape.histograms], 3),
        session=np.array([numbers.get(key, 0) for key in shape.session], np.int64),
        places=np.array(
            [at.session, at.sequence, at.queries, shape.session_gap_ms, len(cells) + len(operands.decays), at.head], np.int64
        ),
        linear=linear_counts(),
        relative=_relative(shape, at),
        times=np.array(times, np.bool_),
        width=at.width,
    )
    return KindLayout(shape.kind, shape, at, features, columns, plan, shape.tag)


def _borders(block: Block) -> list[int]:
    """Where the cells of each operation after the sums begin in a record."""
    return [
        sum(cell.columns for cell in block.cells if OPERATIONS.index(cell.op) < number) for number in range(1, len(OPERATIONS))
    ]


class _Operands:
    """Finds for each feature where the parts of the state are that it reads."""

    def __init__(
        self,
        catalogue: Catalogue | None,
        shape: StateSchema,
        at: BlockColumns,
        blocks: list[list[int]],
        sets: list[list[int]],
        accumulators: int,
    ) -> None:
        self._catalogue, self._shape, self._at, self._blocks, self._sets = catalogue, shape, at, blocks, sets
        self._accumulators = accumulators
        self.decays: list[list[int]] = []
        self.weights: list[list[int]] = []

    def switch(self, features: tuple[Feature, ...], columns: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        codes: list[list[int]] = []
        reals: list[list[float]] = []
        for feature, column in zip(features, columns, strict=True):
            assert self._catalogue is not None
            spec = SPECS[feature.aggregation]
            operands = [self._operand(feature, need) for need in spec.needs(feature)]
            code = RECENCY_OF if spec.code == RECENCY and feature.measure else spec.code
            measures = [m.name for m in self._catalogue.measures]
            measure = measures.index(feature.measure) if feature.measure else 0
            scale = self._catalogue.measure(feature.measure).scale if feature.measure else 1.0
            factor = 1.0
            if feature.base:
                factor = self._catalogue.window(feature.base).length_ms / self._catalogue.window(feature.window).length_ms
            a, b, c = (*operands, 0, 0, 0)[:3]
            codes.append([code, column, a, b, c, measure, feature.words or feature.cells, feature.top])
            reals.append([scale, *feature.prior, feature.default, feature.low, feature.high, factor])
        return _table(codes, 8), np.array(reals, np.float64).reshape(len(reals), 7)

    def _operand(self, feature: Feature, need: Need) -> int:
        assert self._catalogue is not None
        measure = self._catalogue.measure(need.measure)
        key = MeasureKey.of(measure)
        if need.where == "last":
            return self._at.lasts[key]
        if need.where == "histogram":
            return self._at.histograms[key]
        if need.where == "session":
            return self._at.session + 2 + self._shape.session.index(key)
        window = self._catalogue.window(need.where)
        number = next(
            i for i, b in enumerate(self._shape.blocks) if (b.window.length_ms, b.window.tile_ms, b.window.spare_tiles)
            == (window.length_ms, window.tile_ms, window.spare_tiles)
        )  # fmt: skip
        block, column = self._shape.blocks[number], 0
        for cell in block.cells:
            if (cell.op, cell.measure) == (need.op, key):
                break
            column += cell.columns
        if need.op == "distinct":
            return next(i for i, (b, c, _, _) in enumerate(self._sets) if (b, c) == (number, column))
        if SPECS[feature.aggregation].code == DECAYED:
            self.weights.append(weights(feature.half_life_ms, window.tile_ms, window.tiles))
            self.decays.append([number, column, len(self.weights) - 1, self._accumulators + len(self.decays)])
            return self.decays[-1][3]
        return self._blocks[number][12] + column


def _relative(shape: StateSchema, at: BlockColumns) -> NDArray[np.bool_]:
    relative = np.zeros(at.head, np.bool_)
    relative[1] = True
    relative[list(at.lasts.values())] = True
    if shape.session_gap_ms:
        relative[at.session : at.session + 2] = True
    if shape.sequence:
        relative[at.sequence + 1 : at.queries : ENTRY] = True
        relative[at.queries + 1 : at.head : QUERY_ENTRY] = True
    return relative


def _padded(rows: list[list[int]]) -> NDArray[np.int64]:
    table = np.zeros((len(rows), max((len(row) for row in rows), default=1)), np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def _table(rows: list[list[int]], width: int) -> NDArray[np.int64]:
    return np.array(rows, np.int64).reshape(len(rows), width)


MOST_UNION: Final = 1 + max(MOST_LISTED, 16)  # columns of a window's set while it is read
