"""Compile a state schema and the features that read it into a plan: the place of each cell in a row of state, and its readers.

The state of one entity is one row of int64:

    [ newest_ms + 1 | first_ms + 1 | one word of bits a block | lasts | histograms | session | sequences | blocks ... ]

A *block* holds one window of the kind: `slots` records, tile k in record `k % slots`; bit `k % slots` of the block's word marks a
tile that is not empty. The columns of an empty tile's record are undefined, so an entity with few tiles costs few columns to
clear, read and store. Empty parts before the blocks are zero.

A record's cells stand in order of their operation: sums, clipped sums, squares (all merge by addition), max, latest (by the
greater), min, first (by the lesser that is not 0), distinct sets. Everything is integer: sums do not depend on order, replicas
merge exactly, an oracle can compare bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.contract import CATEGORY_BUCKETS, CONTEXT_COLUMNS, INPUTS, ITEM_BUCKETS
from stream_app.errors import ContractError
from stream_app.events import KINDS, PLATFORMS, SCENES
from stream_app.features.aggregations import SPECS
from stream_app.features.aggregations.spec import AggregationCode
from stream_app.features.aggregations.windows.decayed import weights
from stream_app.features.aggregations.windows.distinct import MAX_LISTED, linear_counts
from stream_app.features.declarations import EVENT, Catalogue, EntityKind, Feature
from stream_app.features.sequence import ENTRY, QUERIES, QUERY_ENTRY, SEQUENCE
from stream_app.features.state.plan import (
    HEADER,
    BlockPlan,
    DecayPlan,
    FeaturePlan,
    HistogramPlan,
    KindPlan,
    LastPlan,
    SetPlan,
    records,
)
from stream_app.features.state.state_schema import OPERATIONS, Block, MeasureKey, Need, StateSchema, WindowSpan, schema_of

MAX_UNION: Final = 1 + max(MAX_LISTED, 16)  # columns of a window's set while it is read
_SEMANTICS: Final = 3  # raise it when the same catalogue gives other numbers
_MAX_WIDTH: Final = 62  # one varint of bits marks the stored cells of a record


@dataclass(frozen=True, slots=True)
class BlockColumns:
    """The columns of a row where each part of a schema begins."""

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
    schema: StateSchema
    at: BlockColumns
    features: tuple[Feature, ...]
    columns: tuple[int, ...]  # of `features` in the dense tensor
    plan: KindPlan
    tag: bytes


def catalogue_hash(catalogue: Catalogue) -> str:
    """Return the first 16 hex digits of the sha256 of everything that the features' values depend on, so not prose or TTLs."""
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


def columns_of(schema: StateSchema) -> BlockColumns:
    """Number the columns of a row."""
    at = HEADER + len(schema.blocks)
    lasts: dict[MeasureKey, int] = {}
    for key in schema.lasts:
        lasts[key] = at
        at += 2
    histograms: dict[MeasureKey, int] = {}
    for histogram in schema.histograms:
        histograms[histogram.measure] = at
        at += histogram.cells
    session = sequence = queries = -1
    if schema.session_gap_ms:
        session = at
        at += 2 + len(schema.session)
    if schema.sequence:
        sequence = at
        queries = sequence + 1 + SEQUENCE * ENTRY
        at = queries + 1 + QUERIES * QUERY_ENTRY
    head, starts = at, []
    for block in schema.blocks:
        starts.append(at)
        at += block.width * block.window.slots
    return BlockColumns(lasts, histograms, session, sequence, queries, head, tuple(starts), at)


def kind_layout(catalogue: Catalogue, kind: EntityKind) -> KindLayout:
    """Compile one entity kind. The first kind includes the features of the event itself."""
    entities = (kind.name, EVENT) if kind is catalogue.kinds[0] else (kind.name,)
    columns = tuple(i for i, f in enumerate(catalogue.features) if f.entity in entities)
    features = tuple(catalogue.features[i] for i in columns)
    needs = [need for f in features for need in SPECS[f.aggregation].needs(f)]
    return _layout(catalogue, schema_of(catalogue, kind, needs), features, columns)


def stateless_layout(schema: StateSchema) -> KindLayout:
    """Compile a schema without features, to read blobs that another catalogue wrote."""
    return _layout(None, schema, (), ())


def _layout(
    catalogue: Catalogue | None, schema: StateSchema, features: tuple[Feature, ...], columns: tuple[int, ...]
) -> KindLayout:
    at = columns_of(schema)
    numbers = {MeasureKey.of(m): i for i, m in enumerate(catalogue.measures)} if catalogue else {}
    tables = _Tables(schema, at, numbers)
    plans = [
        tables.feature(catalogue, feature, column)
        for feature, column in zip(features, columns, strict=True)
        if catalogue is not None
    ]
    plan = KindPlan(
        blocks=records(BlockPlan, tables.blocks()),
        cells=np.array(tables.cells, np.int64),
        sets=records(SetPlan, tables.sets),
        decays=records(DecayPlan, sorted(tables.decays)),
        weights=_padded(tables.weights),
        features=records(FeaturePlan, plans),
        always=np.array([i for i, p in enumerate(plans) if p.code in (AggregationCode.OWN, AggregationCode.RATIO)], np.int64),
        lasts=records(LastPlan, [LastPlan(column, numbers.get(key, 0)) for key, column in at.lasts.items()]),
        histograms=records(
            HistogramPlan,
            [HistogramPlan(at.histograms[h.measure], h.cells, numbers.get(h.measure, 0)) for h in schema.histograms],
        ),
        session=np.array([numbers.get(key, 0) for key in schema.session], np.int64),
        linear=linear_counts(),
        relative=_relative(schema, at),
        times=np.array(tables.times, np.bool_),
        session_column=at.session,
        sequence_column=at.sequence,
        queries_column=at.queries,
        session_gap_ms=schema.session_gap_ms,
        accumulators=len(tables.cells) + len(tables.decays),
        head=at.head,
        width=at.width,
    )
    return KindLayout(schema.kind, schema, at, features, columns, plan, schema.tag)


def _borders(block: Block) -> list[int]:
    """Return the columns of a record where each operation after the sums begins."""
    return [
        sum(cell.columns for cell in block.cells if OPERATIONS.index(cell.op) < number) for number in range(1, len(OPERATIONS))
    ]


class _Tables:
    """Tables of a plan, of one schema: cells by block, and the places of what each feature reads."""

    def __init__(self, schema: StateSchema, at: BlockColumns, numbers: Mapping[MeasureKey, int]) -> None:
        self._schema, self._at = schema, at
        self._first: list[tuple[int, int]] = []  # cell and time, by block
        self.cells: list[int] = []
        self.times: list[bool] = []
        self.sets: list[SetPlan] = []
        self.decays: list[DecayPlan] = []
        self.weights: list[list[int]] = []
        for number, block in enumerate(schema.blocks):
            if block.width > _MAX_WIDTH:
                raise ContractError(
                    f"the {block.window.length_ms} ms window of {schema.kind} needs {block.width} columns a tile, at most "
                    f"{_MAX_WIDTH} can be kept; take features away, or give some another window"
                )
            self._first.append((len(self.cells), len(self.times)))
            column = 0
            for cell in block.cells:
                measure = numbers.get(cell.measure, 0)
                if cell.op == "distinct":
                    self.sets.append(SetPlan(number, column, cell.words, measure))
                else:
                    self.cells.append(measure)
                self.times += [cell.op in ("latest", "first")] * cell.columns
                column += cell.columns

    def blocks(self) -> list[BlockPlan]:
        """Return the rings of tiles, after all features."""
        plans = []
        for number, (block, offset) in enumerate(zip(self._schema.blocks, self._at.blocks, strict=True)):
            span = block.window
            spans = [
                end
                for table in (self.sets, self.decays)
                for end in (sum(r.block < number for r in table), sum(r.block <= number for r in table))
            ]
            ring = (span.tile_ms, span.tiles, span.slots, block.width, offset)
            plans.append(BlockPlan._make((*ring, *_borders(block), *self._first[number], *spans)))
        return plans

    def feature(self, catalogue: Catalogue, feature: Feature, column: int) -> FeaturePlan:
        """Return the switch's case and operands of one feature."""
        spec = SPECS[feature.aggregation]
        a, b, c = (*(self._operand(catalogue, feature, need) for need in spec.needs(feature)), 0, 0, 0)[:3]
        factor = 1.0
        if feature.base:
            factor = catalogue.window(feature.base).length_ms / catalogue.window(feature.window).length_ms
        return FeaturePlan(
            code=spec.code,
            column=column,
            a=a,
            b=b,
            c=c,
            measure=[m.name for m in catalogue.measures].index(feature.measure) if feature.measure else 0,
            width=feature.words or feature.cells,
            top=feature.top,
            scale=catalogue.measure(feature.measure).scale if feature.measure else 1.0,
            prior_up=feature.prior[0],
            prior_down=feature.prior[1],
            default=feature.default,
            low=feature.low,
            high=feature.high,
            factor=factor,
        )

    def _operand(self, catalogue: Catalogue, feature: Feature, need: Need) -> int:
        key = MeasureKey.of(catalogue.measure(need.measure))
        if need.where == "last":
            return self._at.lasts[key]
        if need.where == "histogram":
            return self._at.histograms[key]
        if need.where == "session":
            return self._at.session + 2 + self._schema.session.index(key)
        window = catalogue.window(need.where)
        span = WindowSpan(window.length_ms, window.tile_ms, window.spare_tiles)
        number = next(i for i, block in enumerate(self._schema.blocks) if block.window == span)
        column = 0
        for cell in self._schema.blocks[number].cells:
            if (cell.op, cell.measure) == (need.op, key):
                break
            column += cell.columns
        if need.op == "distinct":
            return next(i for i, place in enumerate(self.sets) if (place.block, place.column) == (number, column))
        if feature.aggregation == "decayed":
            accumulator = len(self.cells) + len(self.decays)
            self.decays.append(DecayPlan(number, column, len(self.weights), accumulator))
            self.weights.append(weights(feature.half_life_ms, window.tile_ms, window.tiles))
            return accumulator
        return self._first[number][0] + column


def _relative(schema: StateSchema, at: BlockColumns) -> NDArray[np.bool_]:
    relative = np.zeros(at.head, np.bool_)
    relative[1] = True
    relative[list(at.lasts.values())] = True
    if schema.session_gap_ms:
        relative[at.session : at.session + 2] = True
    if schema.sequence:
        relative[at.sequence + 1 : at.queries : ENTRY] = True
        relative[at.queries + 1 : at.head : QUERY_ENTRY] = True
    return relative


def _padded(rows: list[list[int]]) -> NDArray[np.int64]:
    table = np.zeros((len(rows), max((len(row) for row in rows), default=1)), np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table
