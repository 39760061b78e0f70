"""The fold: one loop over the events per entity kind; each event reads its entity's past and is then added to it.

The loop interprets the plan's tables and knows no feature by name. For every event it (1) checks lateness and repetition against
the user's last events, (2) reads the features, (3) adds the event. The oracle of the tests checks this definition.

Invariant: the state after a set of events depends neither on their order (sequences and sessions apart) nor on how they were cut
into batches. Times are epoch ms; in the state they are one higher, so that 0 is "no event".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.past.changed import read_changed
from stream_app.features.aggregations.past.last import read_last
from stream_app.features.aggregations.past.rank import read_rank
from stream_app.features.aggregations.past.recency import read_since
from stream_app.features.aggregations.past.share import read_share
from stream_app.features.aggregations.past.top_share import read_top_share
from stream_app.features.aggregations.sequence.gap_min import read_gap_min
from stream_app.features.aggregations.sequence.gap_std import read_gap_std
from stream_app.features.aggregations.session.session_sum import session_holds
from stream_app.features.aggregations.spec import AggregationCode as Code
from stream_app.features.aggregations.windows.decayed import read_decayed
from stream_app.features.aggregations.windows.distinct import read_distinct, unite
from stream_app.features.aggregations.windows.gap_mean import read_gap_mean
from stream_app.features.aggregations.windows.mean import read_mean
from stream_app.features.aggregations.windows.min import join_min, read_extreme
from stream_app.features.aggregations.windows.rate import read_rate
from stream_app.features.aggregations.windows.ratio import read_ratio
from stream_app.features.aggregations.windows.std import read_std
from stream_app.features.aggregations.windows.sum import read_sum
from stream_app.features.aggregations.windows.trend import read_trend
from stream_app.features.aggregations.windows.zscore import read_zscore
from stream_app.features.jit import Int, Real, compiled, inlined, prefetch
from stream_app.features.sequence import add_interaction, add_query, find_event, read_interactions, read_queries, seconds_since
from stream_app.features.state.layout import MAX_UNION
from stream_app.features.state.plan import FeaturePlan, KindPlan
from stream_app.features.state.tiles import add_event, add_past, lowest, merge_past, quotient, remainder, window_bits

_AHEAD = 3  # events to prefetch; 1 and 6 were no faster
_LINE = 8  # columns of a cache line


class FoldBatch(NamedTuple):
    """B events.

    times (B,) ms, values (B, M), ids (B, 4) int32 item bucket, category bucket, kind + 1, price bucket, query (B, 4) int32,
    events (B,) hash of the event's id, 0 for none, commits (B,) number of the step that will apply the event.
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
    replicas, merged; heads (N,) their newest time + 1, which decides which of their tiles count, 0 without replicas; both
    (0, ...) if no entity has any. touched (N,): set for changed rows. ttl_ms: -1 for no expiry.

    `own` and `others` are read separately: a group that lags behind the others, or runs ahead of them, still sees all of its own
    windows. The parts without a window are merged into `others` when the fold begins.
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
    """Buffers for the joined windows of one event: joined (A,), and a set (D, U) per distinct count."""

    joined: NDArray[np.int64]
    sets: NDArray[np.int64]

    @classmethod
    def of(cls, plan: KindPlan) -> FoldScratch:
        """Allocate the buffers of one kind."""
        return cls(np.zeros(plan.accumulators, np.int64), np.zeros((len(plan.sets), MAX_UNION), np.int64))


@inlined
def _read_tiles(
    row: NDArray[np.int64], newest: Int, t: Int, plan: KindPlan, joined: NDArray[np.int64], sets: NDArray[np.int64]
) -> None:
    """Join the tiles of every window at time t into `joined` (A,), and the distinct sets into `sets` (D, U)."""
    for b in range(len(plan.blocks)):
        bits, first = window_bits(row, newest, b, t, plan)
        if bits == np.uint64(0):
            continue
        block = plan.blocks[b]
        acc, now = block.first_cell, quotient(t, block.tile_ms)
        while bits != np.uint64(0):
            ahead = lowest(bits)
            bits &= bits - np.uint64(1)
            k = first + ahead
            start = block.offset + remainder(k, block.slots) * block.width
            for c in range(block.maxima):
                joined[acc + c] += row[start + c]
            for c in range(block.maxima, block.minima):
                joined[acc + c] = max(joined[acc + c], row[start + c])
            for c in range(block.minima, block.sets):
                joined[acc + c] = join_min(joined[acc + c], row[start + c])
            for d in range(block.first_set, block.end_set):
                unite(sets[d], row, start + plan.sets[d].column, plan.sets[d].words)
            for d in range(block.first_decay, block.end_decay):
                decay = plan.decays[d]
                joined[decay.accumulator] += row[start + decay.column] * plan.weights[decay.weights, now - k]


@inlined
def _write(feature: FeaturePlan, value: Real, dense: NDArray[np.float32]) -> None:
    """Write a feature's value, clipped to its bounds."""
    low, high = feature.low, feature.high
    dense[feature.column] = low if value < low else high if value > high else value


@inlined
def _evaluate_without_past(plan: KindPlan, values: NDArray[np.int64], dense: NDArray[np.float32]) -> None:
    """Write the features that depend on the event's own values alone; the others have their defaults."""
    for number in plan.always:
        feature = plan.features[number]
        own = values[feature.measure]
        value = own * feature.scale
        if feature.code == Code.RATIO:
            value = feature.default if own != 0 else 0.0
        _write(feature, value, dense)


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
    session = plan.session_column
    in_session = session >= 0 and session_holds(row, session, t, plan.session_gap_ms)
    for feature in plan.features:
        code, a, b, c = feature.code, feature.a, feature.b, feature.c
        own, width, scale, default = values[feature.measure], feature.width, feature.scale, feature.default
        up, down = feature.prior_up, feature.prior_down
        value = default
        if code in (Code.COUNT, Code.SUM):
            value = read_sum(joined[a], scale)
        elif code == Code.DISTINCT:
            value = read_distinct(sets[a], width, plan.linear)
        elif code == Code.MEAN:
            value = read_mean(joined[a], joined[b], scale, default)
        elif code == Code.RATE:
            value = read_rate(joined[a], joined[b], scale, up, down)
        elif code == Code.RATIO:
            value = read_ratio(own, joined[a], joined[b], default)
        elif code in (Code.MIN, Code.MAX):
            value = read_extreme(joined[a], scale, default)
        elif code == Code.STD:
            value = read_std(joined[a], joined[b], joined[c], scale, default)
        elif code == Code.ZSCORE:
            value = read_zscore(own, joined[a], joined[b], joined[c], default)
        elif code == Code.TREND:
            value = read_trend(joined[a], joined[b], feature.factor, default)
        elif code == Code.DECAYED:
            value = read_decayed(joined[a], scale)
        elif code == Code.GAP_MEAN:
            value = read_gap_mean(joined[a], joined[b], joined[c], default)
        elif code == Code.RECENCY:
            value = read_since(row[a], t, default)
        elif code == Code.AGE:
            value = read_since(row[1], t, default)
        elif code == Code.LAST:
            value = read_last(row[a], row[a + 1], scale, default)
        elif code == Code.CHANGED:
            value = read_changed(own, row[a], row[a + 1], default)
        elif code == Code.SHARE:
            value = read_share(row, a, width, own, up, down, default)
        elif code == Code.TOP_SHARE:
            value = read_top_share(row, a, width, feature.top, default)
        elif code == Code.RANK:
            value = read_rank(row, a, width, own)
        elif code == Code.GAP_STD:
            value = read_gap_std(row, plan.sequence_column, default)
        elif code == Code.GAP_MIN:
            value = read_gap_min(row, plan.sequence_column, default)
        elif code == Code.OWN:
            value = own * scale
        elif in_session:
            if code == Code.SESSION_SUM:
                value = read_sum(row[a], scale)
            elif code == Code.SESSION_RATE:
                value = read_rate(row[a], row[b], scale, up, down)
            elif code == Code.SESSION_LENGTH:
                value = seconds_since(row[session], t)
        _write(feature, value, dense)


@inlined
def _check_late_or_duplicate(
    row: NDArray[np.int64], e: int, batch: FoldBatch, out: FoldOutput, plan: KindPlan, lateness_ms: int
) -> None:
    """Set `late_by` of a late event; else `duplicate_of`, if the user's last interactions contain the event."""
    newest, t = row[0] - 1, batch.times[e]
    if newest >= 0 and t < newest - lateness_ms:
        out.late_by[e] = newest - t
    elif plan.sequence_column >= 0:
        out.duplicate_of[e] = find_event(row, plan.sequence_column, batch.events[e], t)


@inlined
def _fetch_ahead(state: FoldState, e: int) -> None:
    """Prefetch the row of a later event: waiting for memory was a third of the time on the card log (measured)."""
    if e < state.rows.shape[0] and state.rows[e] >= 0:
        for column in range(0, state.own.shape[1], _LINE):
            prefetch(state.own, np.int64(state.rows[e]), np.int64(column))


@compiled
def fold_kind(  # noqa: C901, PLR0912 - the loop that all parts are inlined into
    plan: KindPlan, batch: FoldBatch, state: FoldState, out: FoldOutput, scratch: FoldScratch, lateness_ms: int
) -> None:
    """Fold a batch into the entities of one kind, in the order of its events; write the outputs in place.

    An event without such an entity has the features of an empty past. Late events are skipped; duplicates read features but leave
    state unchanged.

    Args:
        plan: the compiled kind.
        batch: the events.
        state: the entities; changes `own`, `touched`, and the parts of `others` without a window.
        out: the tensors; writes this kind's columns of `dense`.
        scratch: buffers for the windows of one event.
        lateness_ms: an event this much older than its entity's newest is late; -1: `out.late_by` and `out.duplicate_of` are
            already filled in.
    """
    joined, sets = scratch.joined, scratch.sets
    for i in range(state.heads.shape[0]):
        if state.heads[i] != 0:
            merge_past(state.others[i], state.own[i], plan)
    for e in range(batch.times.shape[0]):
        _fetch_ahead(state, e + _AHEAD)
        i, t = state.rows[e], batch.times[e]
        if lateness_ms >= 0 and i >= 0:
            _check_late_or_duplicate(state.own[i], e, batch, out, plan, lateness_ms)
        if out.late_by[e] > 0:
            continue
        if i < 0:
            _evaluate_without_past(plan, batch.values[e], out.dense[e])
            continue
        own = state.own[i]
        if state.ttl_ms >= 0 and own[0] > 0 and t - (own[0] - 1) > state.ttl_ms:
            for column in range(own.shape[0]):
                own[column] = 0
        shared = state.heads.shape[0] > 0 and state.heads[i] != 0
        row = state.others[i] if shared else own
        if row[0] == 0:
            _evaluate_without_past(plan, batch.values[e], out.dense[e])
        else:
            for a in range(joined.shape[0]):
                joined[a] = 0
            for d in range(sets.shape[0]):
                sets[d, 0] = 0
            if shared:
                _read_tiles(row, state.heads[i], t, plan, joined, sets)
            _read_tiles(own, own[0], t, plan, joined, sets)
            _evaluate(plan, row, joined, sets, batch.values[e], t, out.dense[e])
        sequence, queries = plan.sequence_column, plan.queries_column
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
