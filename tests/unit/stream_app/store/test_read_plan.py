"""The keys that a batch reads and the snapshot of their values, against `select_replicas` and a dictionary."""

from __future__ import annotations

import random

import numpy as np
import pytest
from redis.crc import key_slot

from stream_app.errors import ConfigError
from stream_app.features.columns.event_columns import EntityRows
from stream_app.store.read_plan import ReadPlan
from stream_app.store.redis_cluster import RedisClusterStore
from stream_app.store.redis_cluster_nodes import slot_of
from stream_app.store.replica_selection import select_replicas

GROUPS = 21
SHARED = frozenset({"device", "query"})


def entity_rows(pairs: list[tuple[int, bytes]]) -> EntityRows:
    groups = np.array([group for group, _ in pairs], np.int32)
    return EntityRows(groups, [key for _, key in pairs], np.arange(len(pairs), dtype=np.int32))


def some_rows(rng: random.Random) -> dict[str, EntityRows]:
    rows = {}
    for kind in ("user", "device", "session", "query"):
        keys = [bytes([number]) * rng.choice((16, 24)) for number in range(rng.randint(0, 6))]
        pairs = [(group, key) for group in range(GROUPS) for key in keys if rng.random() < 0.2]
        rows[kind] = entity_rows(pairs)
    return rows


def groups_of(bitmap: bytes) -> list[int]:
    """The groups of an index entry, ascending: bit 0 is the first byte's highest, as SETBIT counts."""
    return [number for number in range(8 * len(bitmap)) if bitmap[number // 8] >> (7 - number % 8) & 1]


@pytest.mark.parametrize("seed", range(30))
def test_a_plan_asks_and_joins_what_the_holders_say(seed: int) -> None:
    rng = random.Random(seed)
    rows, most = some_rows(rng), rng.choice((1, 3, GROUPS))
    plan = ReadPlan("p", GROUPS, SHARED, rows)
    bitmaps = {key: rng.choice((None, rng.randbytes(rng.randint(1, 3)))) for key in plan.index}
    bitmaps = {key: bits and (bytes([*bits[:2], bits[2] & 0xF8]) if len(bits) == 3 else bits) for key, bits in bitmaps.items()}
    state = {
        f"p:{{g{group}}}:{kind}:{key.hex()}": rng.randbytes(rng.randint(1, 9))
        for kind in rows
        for group in range(GROUPS)
        for key in rows[kind].keys
        if rng.random() < 0.7
    }
    choice = plan.choose_replicas([bitmaps[key] for key in plan.index], most)
    names = plan.names(choice)
    assert len(names) == len(set(names)), "no key is asked for twice"
    assert choice.group.tolist() == sorted(choice.group.tolist())
    assert all(name.startswith(f"p:{{g{group}}}:") for group, name in zip(choice.group.tolist(), names, strict=True))
    snapshot = plan.snapshot(choice, [state.get(name) for name in names], dict.fromkeys(range(GROUPS), 5))
    for kind, of_kind in rows.items():
        pairs = list(zip(of_kind.groups.tolist(), of_kind.keys, strict=True))
        assert list(snapshot.own[kind]) == [state.get(f"p:{{g{group}}}:{kind}:{key.hex()}", b"") for group, key in pairs]
        if kind in SHARED:
            others = snapshot.others[kind]
            replicas: list[list[bytes]] = [[] for _ in pairs]
            for row, blob in zip(others.of.tolist(), others.blobs, strict=True):
                replicas[row].append(blob)
            for row, (group, key) in enumerate(pairs):
                ask, held = select_replicas(groups_of(bitmaps[f"p:holders:{kind}:{key.hex()}"] or b""), group, most)
                there = [state.get(f"p:{{g{other}}}:{kind}:{key.hex()}") for other in ask]
                assert replicas[row] == [blob for blob in there if blob]
                assert (others.held[row], others.asked[row]) == (held, len(ask))


def test_slots_are_those_of_the_cluster() -> None:
    rng = random.Random(1)
    keys = [f"mr:holders:device:{rng.randbytes(size).hex()}" for size in (1, 16, 24)]
    assert [slot_of(key) for key in keys] == [key_slot(key.encode()) for key in keys]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://127.0.0.1:7000/3", "only 0"),
        ("unix:///tmp/redis.sock", "name nodes"),
        ("redis:///0", "name nodes"),
    ],
)
def test_a_url_that_no_cluster_has_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        RedisClusterStore(url, prefix="p", groups=1, shared_kinds=SHARED)
