"""Fold a log in canonical order by shares of its entities and join the features by event, for several processes and for Spark.

An entity's features depend only on that entity's events, so each share of the entities can be folded separately:

    1. the kinds of one user, by shares of users; this pass also flags late and repeated events and fills the sequences;
    2. each shared kind, by shares of its entities: late events are skipped, duplicates read features but leave state unchanged;
    3. the join by event: features of a kind that an event has no entity of come from the event's own values.

The result equals that of a single process to the bit, since the same compiled fold sees the same events in the same order. This
module does not move data between processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_app.features.columns.event_columns import EntityRows, EventColumns
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldResult, LatenessFlags


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """Features from a share of the users: K events with their indices `at` (K,) int64 in the batch.

    dense (K, F_user) float32; the rest as in FoldResult.
    """

    at: NDArray[np.int64]
    dense: NDArray[np.float32]
    sequence_ids: NDArray[np.int32]
    sequence_gaps: NDArray[np.float32]
    query_ids: NDArray[np.int32]
    query_gaps: NDArray[np.float32]
    flags: LatenessFlags


@dataclass(frozen=True, slots=True)
class KindFeatures:
    """Features from a share of a shared kind's entities: indices `at` (K,) int64, dense (K, F_kind) float32."""

    kind: str
    at: NDArray[np.int64]
    dense: NDArray[np.float32]


class SplitFold(Protocol):
    """Holds state of entities: of all (MemoryState), or of the current one only (GroupedFold)."""

    def fold(
        self, columns: EventColumns, commits: NDArray[np.int64] | None = None, flags: LatenessFlags | None = None
    ) -> FoldResult:
        """Read every event's features and update its entities, as `FeatureEngine.fold` does."""
        ...


def user_kinds(engine: FeatureEngine) -> tuple[str, ...]:
    """Return the kinds whose keys begin with the user's digest."""
    return tuple(kind.name for kind in engine.kinds if not kind.shared)


def shared_kinds(engine: FeatureEngine) -> tuple[str, ...]:
    """Return the kinds shared between users; each gets its own pass."""
    return tuple(kind.name for kind in engine.kinds if kind.shared)


def share_of(keys: Sequence[bytes], shares: int) -> NDArray[np.int32]:
    """Return the share of each key, (B,), -1 for an empty key. Keys are digests, so their first bytes are spread evenly."""
    return np.fromiter((((key[0] << 8) | key[1]) % shares if key else -1 for key in keys), np.int32, len(keys))


def select_events(columns: EventColumns, at: NDArray[np.int64], kinds: Sequence[str]) -> EventColumns:
    """Return the events at indices `at` (K,), with their keys of `kinds`."""
    places = at.tolist()
    return EventColumns(
        time_ms=columns.time_ms[at],
        kind=columns.kind[at],
        group=columns.group[at],
        values=np.ascontiguousarray(columns.values[at]),
        context=columns.context[at],
        ids=np.ascontiguousarray(columns.ids[at]),
        query=np.ascontiguousarray(columns.query[at]),
        event=columns.event[at],
        keys={kind: [columns.keys[kind][place] for place in places] for kind in kinds},
    )


def fold_users(
    engine: FeatureEngine, state: SplitFold, part: EventColumns, at: NDArray[np.int64], commits: NDArray[np.int64]
) -> UserFeatures:
    """Fold the K events of a share of the users in one batch; `at` (K,) are their indices, `commits` (K,) as in `engine.fold`."""
    folded = state.fold(part, commits)
    dense = np.ascontiguousarray(folded.dense[:, _columns(engine, user_kinds(engine))])
    flags = LatenessFlags(folded.late_by_ms, folded.duplicate_of)
    return UserFeatures(at, dense, folded.sequence_ids, folded.sequence_gaps, folded.query_ids, folded.query_gaps, flags)


def fold_kind(
    engine: FeatureEngine, state: SplitFold, kind: str, part: EventColumns, at: NDArray[np.int64], flags: LatenessFlags
) -> KindFeatures:
    """Fold the K events of a share of a kind's entities in one batch; `at` (K,) are their indices, `flags` those of the batch."""
    late = flags.late_by_ms[at] > 0
    if late.any():
        part, at = select_events(part, np.flatnonzero(~late), (kind,)), at[~late]
    folded = state.fold(part, flags=LatenessFlags(flags.late_by_ms[at], flags.duplicate_of[at]))
    return KindFeatures(kind, at, np.ascontiguousarray(folded.dense[:, _columns(engine, (kind,))]))


def join(
    engine: FeatureEngine, columns: EventColumns, users: Sequence[UserFeatures], kinds: Sequence[KindFeatures]
) -> FoldResult:
    """Join the features of all shares and kinds by event; each of the B events must be in one of `users`."""
    flags = join_flags(len(columns), users)
    no_entities = EntityRows(np.zeros(0, np.int32), [], np.full(len(columns), -1, np.int32))
    widths = engine.widths()
    rows = dict.fromkeys(widths, no_entities)
    # Fold without entities: each event gets features of an empty history; the passes' features then replace them.
    whole = engine.fold(columns, rows, {kind: np.zeros((0, width), np.int64) for kind, width in widths.items()}, {}, None, flags)
    of_users = _columns(engine, user_kinds(engine))
    for user in users:
        whole.dense[np.ix_(user.at, of_users)] = user.dense
        whole.sequence_ids[user.at], whole.sequence_gaps[user.at] = user.sequence_ids, user.sequence_gaps
        whole.query_ids[user.at], whole.query_gaps[user.at] = user.query_ids, user.query_gaps
    for part in kinds:
        whole.dense[np.ix_(part.at, _columns(engine, (part.kind,)))] = part.dense
    return whole


def join_flags(count: int, users: Sequence[UserFeatures]) -> LatenessFlags:
    """Combine lateness and repetition of all B events from the users' passes."""
    late_by_ms, duplicate_of = np.zeros(count, np.int64), np.full(count, -1, np.int64)
    for user in users:
        late_by_ms[user.at], duplicate_of[user.at] = user.flags.late_by_ms, user.flags.duplicate_of
    return LatenessFlags(late_by_ms, duplicate_of)


def shares_at(keys: Mapping[str, Sequence[bytes]], kind: str, shares: int) -> list[NDArray[np.int64]]:
    """Return the event indices of each share of `kind`, ascending."""
    share = share_of(keys[kind], shares)
    return [np.flatnonzero(share == number) for number in range(shares)]


def _columns(engine: FeatureEngine, kinds: Sequence[str]) -> NDArray[np.int64]:
    return np.array([column for kind in kinds for column in engine.columns_of(kind)], np.int64)
