"""A kind's compiled plan: tables of records that the fold, the tiles and the blobs read by field name.

Each table is a numpy structured array. Its record type below is the only list of its columns: `records` derives the dtype from
it. layout.py fills the tables in. A plan is never stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple, Protocol, TypeVar, cast, get_type_hints

import numpy as np
from numpy.typing import NDArray

from stream_app.features.jit import Int

HEADER: Final = 2  # newest_ms + 1, first_ms + 1; 0 = no event yet

T = TypeVar("T", bound=tuple[Any, ...])
T_co = TypeVar("T_co", covariant=True)


class Records(Protocol[T_co]):
    """A structured array (N,): element i has the fields of its record type."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[T_co]: ...
    def __getitem__(self, number: Int, /) -> T_co: ...


class BlockPlan(NamedTuple):
    """One window's ring of tiles. From `clipped` to `sets`: the column of a tile's record where each operation's cells begin."""

    tile_ms: int
    tiles: int  # in the window
    slots: int  # kept
    width: int  # columns of a tile's record
    offset: int  # column of the first record in the row
    clipped: int
    squares: int
    maxima: int
    latest: int
    minima: int
    firsts: int
    sets: int
    first_cell: int  # rows of `cells`, which are also the block's accumulators
    first_time: int  # rows of `times`
    first_set: int  # rows of `sets`
    end_set: int
    first_decay: int  # rows of `decays`
    end_decay: int


class SetPlan(NamedTuple):
    """A distinct set in the records of a block."""

    block: int
    column: int
    words: int
    measure: int


class DecayPlan(NamedTuple):
    """A decayed sum over a column of a block's records."""

    block: int
    column: int
    weights: int  # row of `weights`
    accumulator: int


class FeaturePlan(NamedTuple):
    """One feature: a case of the fold's switch, and what it reads."""

    code: int  # aggregations.spec.AggregationCode
    column: int  # of the tensor `dense`
    a: int  # operands: accumulators for sums, rows of `sets` for distinct counts, else columns of the row
    b: int
    c: int
    measure: int
    width: int  # columns of a set or a histogram
    top: int
    scale: float
    prior_up: float
    prior_down: float
    default: float
    low: float
    high: float
    factor: float  # trend: base length / window length


class LastPlan(NamedTuple):
    """A last value: its time + 1 and the value, in two columns from `column` on."""

    column: int
    measure: int


class HistogramPlan(NamedTuple):
    """A histogram in `cells` columns from `column` on."""

    column: int
    cells: int
    measure: int


class KindPlan(NamedTuple):
    """Plan of one entity kind for the compiled loops. Arrays are C-contiguous.

    cells (A,): measure of each accumulator, the scalar cells of the blocks one after the other.
    weights (R, T): weight of a tile by its age in tiles.
    always (G,): rows of `features` that need no past.
    session (S,): measures of the session's sums.
    linear (17, 256): aggregations.windows.distinct.linear_counts.
    relative (P,): whether a blob stores the column, of those before the blocks, as its distance from the newest event.
    times (C,): the same for the columns of a record, block after block.
    session_column, sequence_column, queries_column: where these parts of the row begin, -1 for none.
    accumulators: how many a read of all windows fills. head: columns before the blocks. width: columns of a row.
    """

    blocks: Records[BlockPlan]
    cells: NDArray[np.int64]
    sets: Records[SetPlan]
    decays: Records[DecayPlan]
    weights: NDArray[np.int64]
    features: Records[FeaturePlan]
    always: NDArray[np.int64]
    lasts: Records[LastPlan]
    histograms: Records[HistogramPlan]
    session: NDArray[np.int64]
    linear: NDArray[np.float64]
    relative: NDArray[np.bool_]
    times: NDArray[np.bool_]
    session_column: int
    sequence_column: int
    queries_column: int
    session_gap_ms: int
    accumulators: int
    head: int
    width: int


@cache  # numba knows a dtype by its object
def _dtype(fields: type[tuple[Any, ...]]) -> np.dtype[Any]:
    numbers = {int: np.int64, float: np.float64}
    return np.dtype((np.record, [(name, numbers[hint]) for name, hint in get_type_hints(fields).items()]))


def records(fields: type[T], rows: Sequence[T]) -> Records[T]:
    """Return the rows as a structured array with the fields of their type."""
    return cast(Records[T], np.array(rows, _dtype(fields)))
