"""The keys in Redis: which keys a read touches, TTLs, missing keys, keys of an older release."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from stream_app.errors import ContractError
from stream_app.store.redis_store import RedisStore
from tests.contract.own_server import OwnServer
from tests.contract.steps import APPLIED, DEVICE, commit, lists, rows, step, write

pytestmark = [pytest.mark.redis]


@pytest.fixture
def admin(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


async def test_the_keys_of_a_read_are_bounded_whoever_holds_the_entity(
    runner: asyncio.Runner, real_services: object, open_store: Callable[..., RedisStore], tmp_path: Path
) -> None:
    with OwnServer(tmp_path) as server, redis.Redis.from_url(server.url) as admin:
        store = open_store(server.url, groups=300, max_replicas=32)
        epochs = [(await store.claim(group, "w")).epoch for group in range(300)]
        await store.commit([step(epochs[group], group=group, writes=[write("device", (DEVICE, b"d"))]) for group in range(300)])
        for groups, own, replicas in (([10], 1, 32), ([10, 11, 12], 3, 32), ([10, 200], 2, 64)):
            before = _looked_up(admin)
            await store.read(rows("device", *((group, DEVICE) for group in groups)))
            # The groups' commit numbers, the index entry (before and with the blobs), the own blobs, the replicas once each.
            assert _looked_up(admin) - before == 300 + 2 + own + replicas


def _looked_up(admin: redis.Redis) -> int:
    stats: dict[str, int] = admin.info("stats")
    return stats["keyspace_hits"] + stats["keyspace_misses"]


async def test_a_holder_that_comes_while_a_batch_is_read_is_read_as_well(
    runner: asyncio.Runner, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = (await redis_store.claim(3, "w")).epoch
    mget, calls = redis_store._mget, list[int]()

    async def mget_and_write(names: Sequence[str]) -> list[bytes | None]:
        values = await mget(names)
        calls.append(len(names))
        if len(calls) == 1:  # between the index and the blobs
            await redis_store.commit([step(epoch, group=3, writes=[write("device", (DEVICE, b"new"))])])
        return values

    monkeypatch.setattr(redis_store, "_mget", mget_and_write)
    snapshot = await redis_store.read(rows("device", (0, DEVICE)))
    assert lists(snapshot.others["device"]) == [[b"new"]]
    assert snapshot.reads[3] == 1
    assert len(calls) == 3


async def test_a_holder_whose_replica_has_expired_is_asked_in_vain(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis, redis_prefix: str
) -> None:
    for group in (3, 4):
        epoch = (await redis_store.claim(group, "w")).epoch
        await redis_store.commit([step(epoch, group=group, writes=[write("device", (DEVICE, b"%d" % group))])])
    admin.delete(f"{redis_prefix}:{{g3}}:device:{DEVICE.hex()}")
    others = (await redis_store.read(rows("device", (0, DEVICE)))).others["device"]
    assert (lists(others), others.held.tolist(), others.asked.tolist()) == ([[b"4"]], [2], [2])


@pytest.mark.parametrize(("kept_ms", "left"), [(50_000, range(1, 50_001)), (0, range(-2, -1))])
async def test_published_answers_have_their_time(
    runner: asyncio.Runner,
    redis_url: str,
    open_store: Callable[..., RedisStore],
    admin: redis.Redis,
    redis_prefix: str,
    kept_ms: int,
    left: range,
) -> None:
    store = open_store(redis_url, answers_kept_ms=kept_ms)
    epoch = (await store.claim(0, "w")).epoch
    for at in range(3):
        marked = [1] if at == 2 else []
        await store.commit([step(epoch, ranges={"clicks": (at, at + 1)}, payload=b"p", published=marked, after=at)])
    await store.mark_published(0, epoch, [2])
    ttl = {number: admin.pttl(f"{redis_prefix}:{{g0}}:answers:{number}") for number in (1, 2, 3)}
    assert ttl[1] in left
    assert ttl[2] in left
    assert ttl[3] == -1, "what is not published never expires"
    cleaned = await store.purge_answers(0, lambda payload: payload + b"!")
    assert (cleaned.cleaned, cleaned.waiting) == (2 if kept_ms else 0, (3,))
    assert admin.pttl(f"{redis_prefix}:{{g0}}:answers:1") in left, "a payload that is rewritten keeps its time"


async def test_a_payload_that_changes_under_a_purge_is_read_again(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis, redis_prefix: str
) -> None:
    epoch = (await redis_store.claim(0, "w")).epoch
    await redis_store.commit([step(epoch, payload=b"first")])
    await redis_store.mark_published(0, epoch, [1])
    seen: list[bytes] = []

    def changed_meanwhile(payload: bytes) -> bytes | None:
        seen.append(payload)
        if len(seen) == 1:
            admin.set(f"{redis_prefix}:{{g0}}:answers:1", "second", keepttl=True)
        return payload + b", cleaned"

    assert (await redis_store.purge_answers(0, changed_meanwhile)).cleaned == 1
    assert seen == [b"first", b"second"]
    assert await redis_store.answers(0, [1]) == {1: b"second, cleaned"}


async def test_an_answer_that_is_owed_and_gone_is_refused(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis, redis_prefix: str
) -> None:
    epoch = (await redis_store.claim(0, "w")).epoch
    await redis_store.commit([step(epoch, payload=b"p")])
    admin.delete(f"{redis_prefix}:{{g0}}:answers:1")
    with pytest.raises(ContractError, match=r"g0.*answers:1 is gone.*Operator action"):
        await redis_store.claim(0, "w")


async def test_the_outbox_of_the_release_before_is_published_again(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis, redis_prefix: str
) -> None:
    # Its payloads stood in the hash itself.
    epoch = (await redis_store.claim(0, "w")).epoch
    await redis_store.commit([step(epoch, payload=b"p"), step(epoch, ranges={"clicks": (10, 11)}, payload=b"q", after=1)])
    admin.hset(f"{redis_prefix}:{{g0}}:outbox", "1", b"old payload")
    admin.delete(f"{redis_prefix}:{{g0}}:answers:1")
    claim = await redis_store.claim(0, "w")
    assert dict(claim.outbox) == {1: b"old payload", 2: b"q"}
    made = step(claim.epoch, ranges={"clicks": (11, 12)}, published=[1, 2], after=2)
    assert await commit(redis_store, made) == [APPLIED]
    assert dict((await redis_store.claim(0, "w")).outbox) == {}


async def test_a_number_that_is_drawn_again_has_its_new_answer(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis, redis_prefix: str
) -> None:
    # The store lost commit 2; its payload may have survived in a copy that was put back by hand.
    epoch = (await redis_store.claim(0, "w")).epoch
    await redis_store.commit([step(epoch, payload=b"p")])
    admin.set(f"{redis_prefix}:{{g0}}:answers:2", "of a lost commit", px=1_000)
    await redis_store.commit([step(epoch, ranges={"clicks": (10, 11)}, payload=b"q", after=1)])
    assert dict((await redis_store.claim(0, "w")).outbox) == {1: b"p", 2: b"q"}
    assert admin.pttl(f"{redis_prefix}:{{g0}}:answers:2") == -1


async def test_thousands_of_shared_rows_of_many_groups_fit_one_read(runner: asyncio.Runner, redis_store: RedisStore) -> None:
    keys = [b"%016d" % number for number in range(1_500)]
    epochs = [(await redis_store.claim(group, "w")).epoch for group in range(8)]
    writes: list[Any] = [write("device", *((key, b"%d" % group + key) for key in keys)) for group in range(8)]
    await redis_store.commit([step(epochs[group], group=group, writes=[writes[group]]) for group in range(8)])
    snapshot = await redis_store.read(rows("device", *((group, key) for group in range(8) for key in keys)))
    assert list(snapshot.own["device"]) == [b"%d" % group + key for group in range(8) for key in keys]
    replicas = lists(snapshot.others["device"])
    assert replicas[0] == [b"%d" % group + keys[0] for group in range(1, 8)]
    assert replicas[-1] == [b"%d" % group + keys[-1] for group in range(7)]
    assert set(map(len, replicas)) == {7}
