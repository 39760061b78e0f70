"""The store over a true Redis Cluster whose nodes die, lose their last writes, and give slots away.

The cluster is this module's own: three primaries, a replica each, failover after two seconds of silence. What takes the time are
the failovers, about four seconds each.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from devservices import cluster, process
from devservices.cluster import ClusterNode
from stream_app.errors import StoreUnavailableError
from stream_app.features.columns.event_columns import EntityRows
from stream_app.features.state.blobs import Blobs
from stream_app.store.memory import MemoryStore
from stream_app.store.port import CommitResult, CommitStatus, GroupStep, Snapshot, StateWrite, Store
from stream_app.store.redis_cluster import RedisClusterStore
from tests.integration.cluster_faults import (
    admin,
    after_failover,
    cut_off,
    lose,
    opened,
    primary,
    repair,
    replica,
    slot_of_group,
)

pytestmark = [pytest.mark.redis, pytest.mark.slow]

GROUPS = 12
SHARED = frozenset({"device"})
APPLIED, BEHIND = CommitStatus.APPLIED, CommitStatus.BEHIND
TTL_MS = 3_600_000


@pytest.fixture
def whole(own_cluster: Path) -> Path:
    """The cluster of this module, with all six nodes at work."""
    repair(own_cluster)
    return own_cluster


def store_at(root: Path, **options: int) -> AbstractAsyncContextManager[RedisClusterStore]:
    return opened(root, groups=GROUPS, shared=SHARED, **options)


# --- words --------------------------------------------------------------------------------------------------------------


def rows(kind: str, *pairs: tuple[int, bytes]) -> dict[str, EntityRows]:
    groups = np.array([group for group, _ in pairs], np.int32)
    return {kind: EntityRows(groups, [key for _, key in pairs], np.arange(len(pairs), dtype=np.int32))}


def write(kind: str, blobs: dict[bytes, bytes]) -> StateWrite:
    return StateWrite(kind, kind in SHARED, list(blobs), Blobs.of(list(blobs.values())), TTL_MS)


class Counting:
    """Steps over all groups: each adds 1 to the counter of its group's user and of a device that all groups share.

    `acknowledged` counts what the store has confirmed, by group; a front is the number of steps as well.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.epochs: dict[int, str] = {}
        self.acknowledged = dict.fromkeys(range(GROUPS), 0)

    async def claim(self, groups: range = range(GROUPS)) -> None:
        for group in groups:
            claim = await self.store.claim(group, "w")
            self.epochs[group] = claim.epoch
            self.acknowledged[group] = claim.fronts.get("clicks", 0)

    async def step(self, groups: range = range(GROUPS)) -> list[CommitResult]:
        """One step of each group; what is not applied is not counted."""
        before = await self.counters()
        steps = []
        for group in groups:
            front = self.acknowledged[group]
            user, device = before.own["user"][group], before.own["device"][group]
            writes = [write("user", {b"u": increased(user)}), write("device", {b"d": increased(device)})]
            steps.append(
                GroupStep(
                    group,
                    self.epochs[group],
                    {"clicks": (front, front + 1)},
                    b"answer %d" % front,
                    writes,
                    after=before.reads[group],
                )
            )
        results = await self.store.commit(steps)
        for step, result in zip(steps, results, strict=True):
            self.acknowledged[step.group] += result.status is APPLIED
        return results

    async def counters(self) -> Snapshot:
        every = range(GROUPS)
        return await self.store.read(rows("user", *((g, b"u") for g in every)) | rows("device", *((g, b"d") for g in every)))

    async def check(self) -> None:
        """State, front, commit number and outbox of every group say what was acknowledged, and no more."""
        found = await self.counters()
        for group, count in self.acknowledged.items():
            assert number(found.own["user"][group]) == number(found.own["device"][group]) == found.reads[group] == count
            claim = await self.store.claim(group, "w")
            assert (claim.fronts.get("clicks", 0), claim.commit) == (count, count)
            assert list(claim.outbox.values()) == [b"answer %d" % at for at in range(count)]
            self.epochs[group] = claim.epoch
        others = found.others["device"]
        seen = np.bincount(others.of, [number(blob) for blob in others.blobs], GROUPS)
        total = sum(self.acknowledged.values())
        assert seen.tolist() == [total - count for count in self.acknowledged.values()]


def number(blob: bytes) -> int:
    return int.from_bytes(blob)


def increased(blob: bytes) -> bytes:
    return (number(blob) + 1).to_bytes(8)


# --- without a fault ----------------------------------------------------------------------------------------------------


def test_it_answers_as_the_reference_does(whole: Path) -> None:
    rng = random.Random(7)
    keys = [bytes([number]) * 16 for number in range(9)]

    async def run() -> None:
        memory = MemoryStore(GROUPS, SHARED, max_replicas=4)
        async with store_at(whole, max_replicas=4) as store:
            epochs = {one: [(await one.claim(group, "w")).epoch for group in range(GROUPS)] for one in (memory, store)}
            for turn in range(40):
                groups = sorted(rng.sample(range(GROUPS), 5))
                wanted = {
                    kind: entity_rows
                    for kind in ("device", "user")
                    for entity_rows in rows(kind, *((g, key) for g in groups for key in rng.sample(keys, 3))).values()
                }
                found, expected = await store.read(wanted), await memory.read(wanted)
                assert contents(found) == contents(expected)
                blobs = {kind: [rng.randbytes(rng.randint(1, 30)) for _ in wanted[kind].keys] for kind in wanted}
                for one, snapshot in ((memory, expected), (store, found)):
                    steps = [step_of(group, epochs[one][group], turn, snapshot, wanted, blobs) for group in groups]
                    assert {result.status for result in await one.commit(steps)} == {APPLIED}

    asyncio.run(run())


def test_a_replica_that_comes_between_the_rounds_of_a_read_is_seen(whole: Path) -> None:
    async def run() -> None:
        async with store_at(whole) as reader:
            writer = RedisClusterStore(cluster.status(whole).url, prefix=reader._prefix, groups=GROUPS, shared_kinds=SHARED)
            epoch = (await writer.claim(5, "w")).epoch
            await writer.commit([GroupStep(5, epoch, {"clicks": (0, 1)}, b"", [write("device", {b"e": b"1"})])])
            second = [GroupStep(5, epoch, {"clicks": (1, 2)}, b"", [write("device", {b"d": b"2", b"e": b"2"})], after=1)]
            blobs = reader._blobs

            async def after_another_commit(groups: Any, names: Any) -> Any:
                if second:
                    await writer.commit([second.pop()])
                return await blobs(groups, names)

            reader._blobs = after_another_commit  # type: ignore[method-assign]  # the very method, later
            found = await reader.read(rows("device", (0, b"d"), (0, b"e")))
            assert list(found.others["device"].blobs) == [b"2", b"2"]
            assert found.reads[5] == 2
            await writer.close()

    asyncio.run(run())


def step_of(
    group: int, epoch: str, turn: int, read: Snapshot, wanted: dict[str, EntityRows], blobs: dict[str, list[bytes]]
) -> GroupStep:
    writes = []
    for kind, entity_rows in wanted.items():
        mine = [row for row, owner in enumerate(entity_rows.groups.tolist()) if owner == group]
        writes.append(write(kind, {entity_rows.keys[row]: blobs[kind][row] for row in mine}))
    return GroupStep(group, epoch, {f"topic {turn}": (0, 1)}, b"", writes, after=read.reads[group])


def contents(snapshot: Snapshot) -> Any:
    others = {
        kind: (list(each.blobs), each.of.tolist(), each.held.tolist(), each.asked.tolist())
        for kind, each in snapshot.others.items()
    }
    return {kind: list(blobs) for kind, blobs in snapshot.own.items()}, others, dict(snapshot.reads)


def test_any_one_of_the_nodes_in_the_url_is_enough(whole: Path) -> None:
    url = f"redis://127.0.0.1:1,127.0.0.1:2,127.0.0.1:{cluster.status(whole).nodes[4].port}/0"

    async def run() -> None:
        store = RedisClusterStore(url, prefix=f"t{secrets.token_hex(4)}", groups=GROUPS, shared_kinds=SHARED)
        assert (await store.claim(0, "w")).commit == 0
        await store.close()

    asyncio.run(run())


# --- failover -----------------------------------------------------------------------------------------------------------


def test_a_failover_under_way_loses_and_doubles_nothing_that_a_replica_had(whole: Path) -> None:
    async def run() -> None:
        async with store_at(whole, wait_replicas=1, patience_ms=60_000) as store:
            counting = Counting(store)
            await counting.claim()
            for _ in range(10):
                await counting.step()
            old = primary(whole, store, 0)
            failover = asyncio.create_task(asyncio.to_thread(fail_over_and_repair, whole, slot_of_group(store, 0), old))
            while not failover.done():  # steps go on all the time, so one of them is under way when the node dies
                assert {result.status for result in await counting.step()} == {APPLIED}
            await failover
            for _ in range(10):
                assert {result.status for result in await counting.step()} == {APPLIED}
            assert len(set(counting.acknowledged.values())) == 1
            assert counting.acknowledged[0] > 20
            await counting.check()

    asyncio.run(run())


def fail_over_and_repair(root: Path, slot: int, old: ClusterNode) -> None:
    cluster.kill(root, old.number)
    after_failover(root, slot, old)


def test_what_no_replica_had_is_lost_whole_and_done_again_once(whole: Path) -> None:
    async def run() -> None:
        async with store_at(whole) as store:
            counting = Counting(store)
            await counting.claim()
            for _ in range(5):
                await counting.step()
            old = primary(whole, store, 0)
            lost = [group for group in range(GROUPS) if primary(whole, store, group).number == old.number]
            behind = cut_off(whole, old)
            for _ in range(3):
                assert {result.status for result in await counting.step()} == {APPLIED}
            await asyncio.to_thread(lose, whole, slot_of_group(store, 0), old, behind)

            found = await counting.counters()
            assert {group: found.reads[group] for group in range(GROUPS)} == {g: 5 if g in lost else 8 for g in range(GROUPS)}
            steps = [GroupStep(group, counting.epochs[group], {"clicks": (8, 9)}, b"", [], after=8) for group in range(GROUPS)]
            results = await store.commit(steps[:1])
            assert (results[0].status, results[0].commit) == (BEHIND, 5)

            for group in lost:
                await counting.claim(range(group, group + 1))
                assert counting.acknowledged[group] == 5
                for _ in range(3):
                    await counting.step(range(group, group + 1))
            assert set(counting.acknowledged.values()) == {8}
            await counting.check()

    asyncio.run(run())


def test_holders_that_a_failover_forgot_are_announced_again(whole: Path) -> None:
    async def run() -> None:
        async with store_at(whole) as store:
            counting = Counting(store)
            await counting.claim()
            await counting.step(range(1))
            await store.layouts({"aa": "a layout"})
            index = f"{store._prefix}:holders:device:{b'd'.hex()}"
            slot = redis.crc.key_slot(index.encode())
            old = cluster.primary_of(whole, slot)
            behind = cut_off(whole, old)
            await counting.step(range(1, GROUPS))  # their bits are at the old primary only
            await asyncio.to_thread(lose, whole, slot, old, behind)
            kept = next(group for group in range(1, GROUPS) if primary(whole, store, group).number != behind.number)
            assert (await counting.step(range(kept, kept + 1)))[0].status is APPLIED
            found = await counting.counters()
            have, others = [number(blob) for blob in found.own["device"]], found.others["device"]
            assert sum(have) > have[0] > 0
            seen = np.bincount(others.of, [number(blob) for blob in others.blobs], GROUPS)
            assert seen.tolist() == [sum(have) - mine for mine in have], "no group had to write the device again"
            assert await store.layouts({}) == {"aa": "a layout"}

    asyncio.run(run())


def test_without_enough_copies_nothing_counts_and_it_goes_on_when_they_are_back(whole: Path) -> None:
    async def run() -> None:
        async with store_at(whole, wait_replicas=1, wait_ms=50, patience_ms=1_000) as store:
            counting = Counting(store)
            await counting.claim()
            await counting.step()
            cluster.kill(whole, replica(whole, primary(whole, store, 0)).number)
            with pytest.raises(StoreUnavailableError, match=r"0 replicas .*wait_replicas wants 1"):
                await counting.step(range(1))
            with pytest.raises(StoreUnavailableError, match="NOREPLICAS"):
                await store.claim(0, "w")  # else its outbox would be published
            await asyncio.to_thread(repair, whole)
            await counting.claim()
            assert counting.acknowledged[0] == 2, "it was applied, and is acknowledged by the claim"
            await counting.step()
            await counting.check()

    asyncio.run(run())


def test_a_step_that_waits_for_copies_counts_once_when_they_come(whole: Path) -> None:
    async def run() -> None:
        async with store_at(whole, wait_replicas=1, wait_ms=50) as store:
            counting = Counting(store)
            await counting.claim()
            await counting.step()
            at = primary(whole, store, 0)
            cluster.kill(whole, replica(whole, at).number)
            step = asyncio.create_task(counting.step())
            with admin(at) as client:
                there = partial(client.get, f"{store._prefix}:{{g0}}:commit")
                assert await asyncio.to_thread(process.wait_until, lambda: there() == b"2", 20)
            assert not step.done(), "applied, and not acknowledged"
            await asyncio.to_thread(repair, whole)
            assert {result.status for result in await step} == {APPLIED}
            await counting.check()

    asyncio.run(run())


# --- slots that move ----------------------------------------------------------------------------------------------------


def test_while_a_slot_moves_a_commit_is_whole_or_not_there(whole: Path) -> None:
    async def run() -> None:
        async with store_at(whole, patience_ms=700) as store:
            counting = Counting(store)
            await counting.claim()
            await counting.step()
            slot, old = slot_of_group(store, 0), primary(whole, store, 0)
            new = next(node for node in cluster.status(whole).nodes if node.role == "primary" and node.number != old.number)
            with admin(old) as source, admin(new) as target:
                begin_move(source, target, slot)
                with pytest.raises(StoreUnavailableError, match="rearranged"):
                    await counting.step(range(1))
                move_key(source, new, f"{store._prefix}:{{g0}}:user:{b'u'.hex()}")
                with pytest.raises(StoreUnavailableError, match="rearranged"):
                    await counting.step(range(1))
                fresh = [write("user", {b"new": b"1"})]
                with pytest.raises(StoreUnavailableError, match="rearranged"):
                    await store.commit([GroupStep(0, counting.epochs[0], {"clicks": (1, 2)}, b"x", fresh, after=1)])
                assert int(source.get(f"{store._prefix}:{{g0}}:commit")) == 1
                for key in source.execute_command("CLUSTER GETKEYSINSLOT", slot, 1_000):
                    move_key(source, new, key)
                end_move(whole, target, slot)
            await counting.step()
            assert primary(whole, store, 0).number == new.number
            await counting.check()

    asyncio.run(run())


def begin_move(source: Any, target: Any, slot: int) -> None:
    target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source.execute_command("CLUSTER MYID"))
    source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target.execute_command("CLUSTER MYID"))


def move_key(source: Any, target: ClusterNode, key: str | bytes) -> None:
    source.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5_000)


def end_move(root: Path, target: Any, slot: int) -> None:
    owner = target.execute_command("CLUSTER MYID")
    for node in sorted(cluster.status(root).nodes, key=lambda node: node.role != "primary"):
        if node.role == "primary":
            with admin(node) as client:
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", owner)
    assert process.wait_until(lambda: cluster.status(root).ok, 20)


# --- one person ---------------------------------------------------------------------------------------------------------


def test_a_person_is_erased_on_the_groups_node(whole: Path) -> None:
    async def run(work: Callable[[RedisClusterStore], Awaitable[None]]) -> None:
        async with store_at(whole) as store:
            await work(store)

    async def erase(store: RedisClusterStore) -> None:
        epoch = (await store.claim(3, "w")).epoch
        person, other = b"p" * 16, b"q" * 16
        writes = [write("user", {person: b"1", other: b"2"}), write("session", {person + b"s" * 8: b"3"})]
        await store.commit([GroupStep(3, epoch, {"clicks": (0, 1)}, b"of p", writes)])
        erased = await store.erase(3, person)
        assert (dict(erased.keys), erased.commit) == ({"user": 1, "session": 1}, 1)
        found = await store.read(rows("user", (3, person), (3, other)))
        assert list(found.own["user"]) == [b"", b"2"]
        await store.mark_published(3, epoch, [1])
        assert await store.answers(3, [1, 2]) == {1: b"of p"}
        assert (await store.purge_answers(3, lambda _payload: b"")).cleaned == 1
        assert await store.answers(3, [1]) == {}
        health = await store.health()
        assert (health.replicas, health.evicted, health.policy) == (1, 0, "noeviction")
        assert list(health.evicted_by_server.values()) == [0, 0, 0]
        assert health.used_bytes > 3_000_000

    asyncio.run(run(erase))
