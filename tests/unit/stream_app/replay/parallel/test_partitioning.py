"""A replay split by entity, kind by kind, gives every number of the fold in one piece, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.events import Event
from stream_app.replay.memory_state import MemoryState
from stream_app.replay.parallel.partitioning import (
    fold_kind,
    fold_users,
    join,
    join_flags,
    select_events,
    share_of,
    shared_kinds,
    shares_at,
    user_kinds,
)
from tests.unit.stream_app.features.cases import LATENESS_MS, NOON, engine_of, event_of, logs, tensors
from tests.unit.stream_app.replay.test_memory_state import CATALOGUES, IDENTITY, cut, in_order


@pytest.mark.parametrize("which", CATALOGUES)
@settings(deadline=None, max_examples=40)
@given(log=logs(), size=st.sampled_from([1, 9, 40]), shares=st.integers(1, 4))
def test_any_number_of_shares_gives_what_one_fold_gives(which: str, log: list[Event], size: int, shares: int) -> None:
    engine = engine_of(CATALOGUES[which], LATENESS_MS)
    whole = MemoryState(engine)
    users = [MemoryState(engine, user_kinds(engine)) for _ in range(shares)]
    kinds = {kind: [MemoryState(engine, (kind,)) for _ in range(shares)] for kind in shared_kinds(engine)}
    by_user, results, expected = user_kinds(engine)[0], [], []
    for columns, commits in cut(engine, in_order(log), size):
        expected.append(whole.fold(columns, commits))
        of_users = [
            fold_users(engine, users[share], select_events(columns, at, user_kinds(engine)), at, commits[at])
            for share, at in enumerate(shares_at(columns.keys, by_user, shares))
        ]
        flags = join_flags(len(columns), of_users)
        of_kinds = [
            fold_kind(engine, states[share], kind, select_events(columns, at, (kind,)), at, flags)
            for kind, states in kinds.items()
            for share, at in enumerate(shares_at(columns.keys, kind, shares))
        ]
        results.append(join(engine, columns, of_users, of_kinds))
        assert results[-1].duplicate_of.tobytes() == expected[-1].duplicate_of.tobytes()
    whole_tensors, split_tensors = tensors(expected), tensors(results)
    for name, tensor in whole_tensors.items():
        assert split_tensors[name].tobytes() == tensor.tobytes(), name


def test_late_events_change_no_shared_kind_either() -> None:
    engine = engine_of(CATALOGUES["shipped"], 0)
    log = [event_of(6, NOON + offset_ms, f"e{offset_ms}") for offset_ms in (5_000, 1_000, 6_000)]  # one user, one device
    columns, commits = engine.columns(log, [0] * 3, IDENTITY), np.arange(1, 4)
    whole = MemoryState(engine).fold(columns, commits)
    everything = np.arange(3)
    users = fold_users(engine, MemoryState(engine, user_kinds(engine)), columns, everything, commits)
    kinds = [
        fold_kind(engine, MemoryState(engine, (kind,)), kind, select_events(columns, at, (kind,)), at, users.flags)
        for kind in shared_kinds(engine)
        for at in shares_at(columns.keys, kind, 1)
    ]
    assert whole.late.tolist() == [False, True, False]
    assert join(engine, columns, [users], kinds).dense.tobytes() == whole.dense.tobytes()


def test_an_entity_is_in_one_share_and_none_in_none() -> None:
    keys = [bytes([n, 255 - n]) + bytes(14) for n in range(200)]
    results = share_of([*keys, b"", *keys], 7)
    assert results[200] == -1
    assert (results[:200] == results[201:]).all()
    assert set(results[:200].tolist()) == set(range(7))
