"""The fold: events are applied one after the other, each reading its entity's past before it is added to it.

One plain loop a kind of entity; it interprets the layout's arrays and knows no feature by name. It is the definition that the
oracle in the tests checks: for every event, (1) judge lateness and repetition by the user's last events, (2) read, (3) add.

Invariant: the state after a set of events does not depend on their order (sequences and sessions apart), nor on how it was cut
into batches. Times are epoch ms; in the state they are one higher, so that 0 is "no event".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.decayed import DECAYED, read_decayed
from stream_app.features.aggregations.distinct import DISTINCT, read_distinct, unite
from stream_app.features.aggregations.extremes import EXTREME, join_min, read_extreme
from stream_app.features.aggregations.gaps import GAP_MEAN, GAP_MIN, GAP_STD, read_gap_mean, read_gap_min, read_gap_std
from stream_app.features.aggregations.histogram import RANK, SHARE, TOP_SHARE, read_rank, read_share, read_top
from stream_app.features.aggregations.last import CHANGED, LAST, read_changed, read_last
from stream_app.features.aggregations.mean import MEAN, read_mean
from stream_app.features.aggregations.own import OWN
from stream_app.features.aggregations.rate import RATE, read_rate
from stream_app.features.aggregations.ratio import RATIO, read_ratio
from stream_app.features.aggregations.recency import AGE, RECENCY, RECENCY_OF, read_since
from stream_app.features.aggregations.session import (
    SESSION_LENGTH,
    SESSION_RATE,
    SESSION_SUM,
    read_session_length,
    session_holds,
)
from stream_app.features.aggregations.spread import STD, ZSCORE, read_std, read_zscore
from stream_app.features.aggregations.sums import SUM, read_sum
from stream_app.features.aggregations.trend import TREND, read_trend
from stream_app.features.jit import Int, compiled, inlined, prefetch
from stream_app.features.sequence import add_interaction, add_query, find_event, read_interactions, read_queries
from stream_app.features.state.layout import MOST_UNION, KindPlan
from stream_app.features.state.tiles import add_event, add_past, kept_bits, lowest, merge_past, quotient, remainder

__all__ = ["FoldBatch", "FoldOutput", "FoldScratch", "FoldState", "fold_kind"]

# Columns of plan.blocks, plan.codes, plan.reals and plan.places (layout.KindPlan).
_TILE_MS, _TILES, _SLOTS, _WIDTH, _OFFSET = 0, 1, 2, 3, 4
_MAX, _MIN, _SETS, _FIRST_CELL = 7, 9, 11, 12
_SET_FROM, _SET_TO, _DECAY_FROM, _DECAY_TO = 14, 15, 16, 17
_CODE, _COLUMN, _A, _B, _C, _MEASURE, _SIZE, _TOP = 0, 1, 2, 3, 4, 5, 6, 7
_SCALE, _PRIOR_UP, _PRIOR_DOWN, _DEFAULT, _LOW, _HIGH, _FACTOR = 0, 1, 2, 3, 4, 5, 6
_SESSION, _SEQUENCE, _QUERIES, _GAP_MS, _ACCUMULATORS = 0, 1, 2, 3, 4
_AHEAD = 3  # events: 1, 3 and 6 were tried
_LINE = 8  # columns of a cache line


class FoldBatch(NamedTuple):
    """B events.

    times (B,) ms, values (B, M), ids (B, 4) int32 item bucket, category bucket, kind + 1, price bucket, query (B, 4) int32,
    events (B,) hash of what names the event, 0 for none, commits (B,) number of the step that will apply it.
    """

    times: NDArray[np.int64]
    values: NDArray[np.int64]
    ids: NDArray[np.int32]
    query: NDArray[np.int32]
    events: NDArray[np.int64]
    commits: NDArray[np.int64]


class FoldState(NamedTuple):
    """N entities of one kind.

    rows (B,) int32: each event's entity, -1 for none. own (N, W): this group's state. others (N, W): the other groups'
    replicas, merged; heads (N,) their newest time + 1, by which their tiles are kept, 0 where there are none; both (0, ...) for
    none at all. touched (N,): set for what changed.

    The two are read apart: a group that lags behind the others, or runs ahead of them, still sees all of its own windows. What
    has no window is merged into `others` when the fold begins.
    """

    rows: NDArray[np.int32]
    own: NDArray[np.int64]
    others: NDArray[np.int64]
    heads: NDArray[np.int64]
    touched: NDArray[np.bool_]
    ttl_ms: int


class FoldOutput(NamedTuple):
    """Tensors of B events, dense filled with the defaults and the rest with zeros before the first kind.

    late_by (B,) int64 ms, duplicate_of (B,) int64 (-1: none), dense (B, F) float32, sequence_ids (B, 32, 4) int32, sequence_gaps
    (B, 32) float32 seconds, query_ids (B, 4, 4) int32, query_gaps (B, 4) float32 seconds.
    """

    late_by: NDArray[np.int64]
    duplicate_of: NDArray[np.int64]
    dense: NDArray[np.float32]
    sequence_ids: NDArray[np.int32]
    sequence_gaps: NDArray[np.float32]
    query_ids: NDArray[np.int32]
    query_gaps: NDArray[np.float32]


class FoldScratch(NamedTuple):
    """What the windows of one event are joined in: joined (A,), and a set (D, U) for each distinct count."""

    joined: NDArray[np.int64]
    sets: NDArray[np.int64]

    @classmethod
    def of(cls, plan: KindPlan) -> FoldScratch:
        """Make it for one kind."""
        return cls(np.zeros(int(plan.places[_ACCUMULATORS]), np.int64), np.zeros((len(plan.sets), MOST_UNION), np.int64))


@inlined
def _read_tiles(
    row: NDArray[np.int64], newest: Int, t: Int, plan: KindPlan, joined: NDArray[np.int64], sets: NDArray[np.int64]
) -> None:
    """Join the tiles of every window at time t into `joined` (A,), and the distinct sets into `sets` (D, U)."""
    for b in range(plan.blocks.shape[0]):
        bits, first = kept_bits(row, newest, b, t, plan)
        if bits == np.uint64(0):
            continue
        block = plan.blocks[b]
        acc, now = block[_FIRST_CELL], quotient(t, block[_TILE_MS])
        while bits != np.uint64(0):
            ahead = lowest(bits)
            bits &= bits - np.uint64(1)
            k = first + ahead
            start = block[_OFFSET] + remainder(k, block[_SLOTS]) * block[_WIDTH]
            for c in range(block[_MAX]):
                joined[acc + c] += row[start + c]
            for c in range(block[_MAX], block[_MIN]):
                joined[acc + c] = max(joined[acc + c], row[start + c])
            for c in range(block[_MIN], block[_SETS]):
                joined[acc + c] = join_min(joined[acc + c], row[start + c])
            for d in range(block[_SET_FROM], block[_SET_TO]):
                unite(sets[d], row, start + plan.sets[d, 1], plan.sets[d, 2])
            for d in range(block[_DECAY_FROM], block[_DECAY_TO]):
                joined[plan.decays[d, 3]] += row[start + plan.decays[d, 1]] * plan.weights[plan.decays[d, 2], now - k]


@inlined
def _without_past(plan: KindPlan, values: NDArray[np.int64], dense: NDArray[np.float32]) -> None:
    """Write the features that the event's own values settle; the others have their defaults."""
    for g in range(plan.always.shape[0]):
        f = plan.always[g]
        own = values[plan.codes[f, _MEASURE]]
        value = own * plan.reals[f, _SCALE]
        if plan.codes[f, _CODE] == RATIO:
            value = plan.reals[f, _DEFAULT] if own != 0 else 0.0
        low, high = plan.reals[f, _LOW], plan.reals[f, _HIGH]
        dense[plan.codes[f, _COLUMN]] = low if value < low else high if value > high else value


@inlined
def _evaluate(  # noqa: C901, PLR0912, PLR0915 - the switch
    plan: KindPlan,
    row: NDArray[np.int64],
    joined: NDArray[np.int64],
    sets: NDArray[np.int64],
    values: NDArray[np.int64],
    t: Int,
    dense: NDArray[np.float32],
) -> None:
    """Write the kind's features from a row with a past and its joined windows."""
    session = plan.places[_SESSION]
    in_session = session >= 0 and session_holds(row, session, t, plan.places[_GAP_MS])
    for f in range(plan.codes.shape[0]):
        code, a, b, c = plan.codes[f, _CODE], plan.codes[f, _A], plan.codes[f, _B], plan.codes[f, _C]
        own, size = values[plan.codes[f, _MEASURE]], plan.codes[f, _SIZE]
        scale, default = plan.reals[f, _SCALE], plan.reals[f, _DEFAULT]
        up, down = plan.reals[f, _PRIOR_UP], plan.reals[f, _PRIOR_DOWN]
        value = default
        if code == SUM:
            value = read_sum(joined[a], scale)
        elif code == DISTINCT:
            value = read_distinct(sets[a], size, plan.linear)
        elif code == MEAN:
            value = read_mean(joined[a], joined[b], scale, default)
        elif code == RATE:
            value = read_rate(joined[a], joined[b], scale, up, down)
        elif code == RATIO:
            value = read_ratio(own, joined[a], joined[b], default)
        elif code == EXTREME:
            value = read_extreme(joined[a], scale, default)
        elif code == STD:
            value = read_std(joined[a], joined[b], joined[c], scale, default)
        elif code == ZSCORE:
            value = read_zscore(own, joined[a], joined[b], joined[c], default)
        elif code == TREND:
            value = read_trend(joined[a], joined[b], plan.reals[f, _FACTOR], default)
        elif code == DECAYED:
            value = read_decayed(joined[a], scale)
        elif code == GAP_MEAN:
            value = read_gap_mean(joined[a], joined[b], joined[c], default)
        elif code == RECENCY:
            value = read_since(row[0], t, default)
        elif code == AGE:
            value = read_since(row[1], t, default)
        elif code == RECENCY_OF:
            value = read_since(row[a], t, default)
        elif code == LAST:
            value = read_last(row[a], row[a + 1], scale, default)
        elif code == CHANGED:
            value = read_changed(own, row[a], row[a + 1], default)
        elif code == SHARE:
            value = read_share(row, a, size, own, up, down, default)
        elif code == TOP_SHARE:
            value = read_top(row, a, size, plan.codes[f, _TOP], default)
        elif code == RANK:
            value = read_rank(row, a, size, own)
        elif code == GAP_STD:
            value = read_gap_std(row, plan.places[_SEQUENCE], default)
        elif code == GAP_MIN:
            value = read_gap_min(row, plan.places[_SEQUENCE], default)
        elif code == OWN:
            value = own * scale
        elif in_session:
            if code == SESSION_SUM:
                value = read_sum(row[a], scale)
            elif code == SESSION_RATE:
                value = read_rate(row[a], row[b], scale, up, down)
            elif code == SESSION_LENGTH:
                value = read_session_length(row[session], t)
        low, high = plan.reals[f, _LOW], plan.reals[f, _HIGH]
        dense[plan.codes[f, _COLUMN]] = low if value < low else high if value > high else value


@inlined
def _judge(row: NDArray[np.int64], e: int, batch: FoldBatch, out: FoldOutput, plan: KindPlan, lateness_ms: int) -> None:
    """Say whether an event is late, or one that its user's last events hold already."""
    newest, t = row[0] - 1, batch.times[e]
    if newest >= 0 and t < newest - lateness_ms:
        out.late_by[e] = newest - t
    elif plan.places[_SEQUENCE] >= 0:
        out.duplicate_of[e] = find_event(row, plan.places[_SEQUENCE], batch.events[e], t)


@inlined
def _fetch_ahead(state: FoldState, e: int) -> None:
    """Have the row of a later event fetched: waiting for memory was a third of the time on the card log (measured)."""
    if e < state.rows.shape[0] and state.rows[e] >= 0:
        for column in range(0, state.own.shape[1], _LINE):
            prefetch(state.own, np.int64(state.rows[e]), np.int64(column))


@compiled
def fold_kind(  # noqa: C901, PLR0912 - the loop that everything is compiled into
    plan: KindPlan, batch: FoldBatch, state: FoldState, out: FoldOutput, scratch: FoldScratch, lateness_ms: int
) -> None:
    """Fold a batch into the entities of one kind, in the order of its events; outputs are written in place.

    An event without such an entity reads as one without a past. A late event neither reads nor changes anything; one that was
    there before reads and changes nothing.

    Args:
        plan: the compiled kind.
        batch: the events.
        state: the entities; `own`, `touched`, and of `others` what has no window, are changed.
        out: the tensors; this kind's columns of `dense` are written.
        scratch: room for the windows of one event.
        lateness_ms: events older than this before their entity's newest are late; -1: `out.late_by` and `out.duplicate_of` are
            given.
    """
    joined, sets = scratch.joined, scratch.sets
    for i in range(state.heads.shape[0]):
        if state.heads[i] != 0:
            merge_past(state.others[i], state.own[i], plan)
    for e in range(batch.times.shape[0]):
        _fetch_ahead(state, e + _AHEAD)
        i, t = state.rows[e], batch.times[e]
        if lateness_ms >= 0 and i >= 0:
            _judge(state.own[i], e, batch, out, plan, lateness_ms)
        if out.late_by[e] > 0:
            continue
        if i < 0:
            _without_past(plan, batch.values[e], out.dense[e])
            continue
        own = state.own[i]
        if state.ttl_ms >= 0 and own[0] > 0 and t - (own[0] - 1) > state.ttl_ms:
            for column in range(own.shape[0]):
                own[column] = 0
        shared = state.heads.shape[0] > 0 and state.heads[i] != 0
        row = state.others[i] if shared else own
        if row[0] == 0:
            _without_past(plan, batch.values[e], out.dense[e])
        else:
            for a in range(joined.shape[0]):
                joined[a] = 0
            for d in range(sets.shape[0]):
                sets[d, 0] = 0
            if shared:
                _read_tiles(row, state.heads[i], t, plan, joined, sets)
            _read_tiles(own, own[0], t, plan, joined, sets)
            _evaluate(plan, row, joined, sets, batch.values[e], t, out.dense[e])
        sequence, queries = plan.places[_SEQUENCE], plan.places[_QUERIES]
        if sequence >= 0:
            read_interactions(row, sequence, t, out.sequence_ids[e], out.sequence_gaps[e])
            read_queries(row, queries, t, out.query_ids[e], out.query_gaps[e])
        if out.duplicate_of[e] >= 0:
            continue
        if sequence >= 0:
            add_interaction(own, sequence, t, batch.ids[e], batch.events[e], batch.commits[e])
            add_query(own, queries, t, batch.query[e])
        add_event(own, t, batch.values[e], plan)
        if shared:
            add_past(row, t + 1, batch.values[e], plan)
        state.touched[i] = True
