"""Features entity kind by entity kind, joined by event: what several processes, or Spark, do with a log in canonical order.

An entity's features depend on that entity's events alone, so each share of the entities can be folded by itself:

    1. the kinds of one user, by shares of users: they judge lateness and repetition too, and fill the sequences;
    2. each shared kind, by shares of its entities: late events are left out, duplicates read and change nothing;
    3. joined by event: what an event has no entity for is settled by its own values.

Every number is the one that a single process computes, to the bit: it is the same compiled fold over the same events in the same
order. Nothing here knows how the shares travel.
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

__all__ = [
    "KindFeatures",
    "SplitFold",
    "UserFeatures",
    "fold_kind",
    "fold_users",
    "join",
    "joined_judgement",
    "share_of",
    "shared_kinds",
    "shares_at",
    "taken",
    "user_kinds",
]


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """What the pass over a share of the users gives: K events, numbered by `at` (K,) int64 in the batch they are of.

    dense (K, F_user) float32; the rest as in FoldResult.
    """

    at: NDArray[np.int64]
    dense: NDArray[np.float32]
    sequence_ids: NDArray[np.int32]
    sequence_gaps: NDArray[np.float32]
    query_ids: NDArray[np.int32]
    query_gaps: NDArray[np.float32]
    judged: LatenessFlags


@dataclass(frozen=True, slots=True)
class KindFeatures:
    """What the pass over a share of a shared kind's entities gives: `at` (K,) int64, dense (K, F_kind) float32."""

    kind: str
    at: NDArray[np.int64]
    dense: NDArray[np.float32]


class SplitFold(Protocol):
    """Keeps the state of some entities: all that come (Resident), or the one that is at hand (GroupedFold)."""

    def fold(
        self, columns: EventColumns, commits: NDArray[np.int64] | None = None, judged: LatenessFlags | None = None
    ) -> FoldResult:
        """Read every event's features and add it to its entities, as `FeatureEngine.fold` does."""
        ...


def user_kinds(engine: FeatureEngine) -> tuple[str, ...]:
    """Return the kinds that go by the user: their keys begin with the user's digest."""
    return tuple(kind.name for kind in engine.kinds if not kind.shared)


def shared_kinds(engine: FeatureEngine) -> tuple[str, ...]:
    """Return the kinds that get a pass each."""
    return tuple(kind.name for kind in engine.kinds if kind.shared)


def share_of(keys: Sequence[bytes], shares: int) -> NDArray[np.int32]:
    """Return which of `shares` each key belongs to, (B,), -1 for none. Keys are digests: their first bytes are spread evenly."""
    return np.fromiter((((key[0] << 8) | key[1]) % shares if key else -1 for key in keys), np.int32, len(keys))


def taken(columns: EventColumns, at: NDArray[np.int64], kinds: Sequence[str]) -> EventColumns:
    """Return the events numbered `at` (K,), with their keys of `kinds`."""
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
    """Fold a share of the users.

    Args:
        engine: Any, warm.
        state: Of the user kinds, and of this share.
        part: The K events of this share, of one batch, in order.
        at: (K,) their numbers in the batch.
        commits: (K,) as in FeatureEngine.fold.
    """
    folded = state.fold(part, commits)
    dense = np.ascontiguousarray(folded.dense[:, _columns(engine, user_kinds(engine))])
    judged = LatenessFlags(folded.late_by_ms, folded.duplicate_of)
    return UserFeatures(at, dense, folded.sequence_ids, folded.sequence_gaps, folded.query_ids, folded.query_gaps, judged)


def fold_kind(
    engine: FeatureEngine, state: SplitFold, kind: str, part: EventColumns, at: NDArray[np.int64], judged: LatenessFlags
) -> KindFeatures:
    """Fold a share of a shared kind's entities.

    Args:
        engine: Any, warm.
        state: Of this kind, and of this share.
        kind: The kind.
        part: The K events of this share, of one batch, in order.
        at: (K,) their numbers in the batch.
        judged: What the users' pass said of the whole batch.
    """
    late = judged.late_by_ms[at] > 0
    if late.any():
        part, at = taken(part, np.flatnonzero(~late), (kind,)), at[~late]
    folded = state.fold(part, judged=LatenessFlags(judged.late_by_ms[at], judged.duplicate_of[at]))
    return KindFeatures(kind, at, np.ascontiguousarray(folded.dense[:, _columns(engine, (kind,))]))


def join(
    engine: FeatureEngine, columns: EventColumns, users: Sequence[UserFeatures], kinds: Sequence[KindFeatures]
) -> FoldResult:
    """Put the passes' parts together; every event must be in one of `users`.

    Args:
        engine: Any, warm.
        columns: B events.
        users: Of all shares.
        kinds: Of all shared kinds and shares.
    """
    judged = joined_judgement(len(columns), users)
    nobody = EntityRows(np.zeros(0, np.int32), [], np.full(len(columns), -1, np.int32))
    widths = engine.widths()
    rows = dict.fromkeys(widths, nobody)
    # Without entities: each event reads as one without a past, and then gets what the passes have read.
    whole = engine.fold(columns, rows, {kind: np.zeros((0, width), np.int64) for kind, width in widths.items()}, {}, None, judged)
    of_users = _columns(engine, user_kinds(engine))
    for user in users:
        whole.dense[np.ix_(user.at, of_users)] = user.dense
        whole.sequence_ids[user.at], whole.sequence_gaps[user.at] = user.sequence_ids, user.sequence_gaps
        whole.query_ids[user.at], whole.query_gaps[user.at] = user.query_ids, user.query_gaps
    for part in kinds:
        whole.dense[np.ix_(part.at, _columns(engine, (part.kind,)))] = part.dense
    return whole


def joined_judgement(count: int, users: Sequence[UserFeatures]) -> LatenessFlags:
    """Return what the users' passes said of all B events."""
    late_by_ms, duplicate_of = np.zeros(count, np.int64), np.full(count, -1, np.int64)
    for user in users:
        late_by_ms[user.at], duplicate_of[user.at] = user.judged.late_by_ms, user.judged.duplicate_of
    return LatenessFlags(late_by_ms, duplicate_of)


def shares_at(keys: Mapping[str, Sequence[bytes]], kind: str, shares: int) -> list[NDArray[np.int64]]:
    """Return for each share the events whose entity of `kind` belongs to it, ascending."""
    share = share_of(keys[kind], shares)
    return [np.flatnonzero(share == number) for number in range(shares)]


def _columns(engine: FeatureEngine, kinds: Sequence[str]) -> NDArray[np.int64]:
    return np.array([column for kind in kinds for column in engine.columns_of(kind)], np.int64)
