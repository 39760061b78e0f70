"""Redis replicas (`wait_replicas`) and the memory limit: what the store reports, and what it does not commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from devservices.process import wait_until
from stream_app.errors import StoreUnavailableError
from stream_app.store.port import CommitResult
from stream_app.store.redis_store import RedisStore
from tests.contract.lossy_proxy import LossyProxy
from tests.contract.own_server import OwnServer
from tests.contract.steps import APPLIED, USER, step, user_blob, write

pytestmark = [pytest.mark.redis]


@pytest.fixture
def server(real_services: object, tmp_path: Path) -> Iterator[OwnServer]:
    with OwnServer(tmp_path / "primary") as running:
        yield running


@pytest.fixture
def copy(server: OwnServer, tmp_path: Path) -> Iterator[OwnServer]:
    """A replica of `server` that has caught up."""
    with OwnServer(tmp_path / "copy", f"replicaof 127.0.0.1 {server.port}") as running:
        assert wait_until(lambda: _follows(running), 20)
        yield running


def _follows(copy: OwnServer) -> bool:
    with redis.Redis.from_url(copy.url) as client:
        return bool(client.info("replication")["master_link_status"] == "up")


async def test_a_commit_counts_when_the_copies_have_it(
    runner: asyncio.Runner, server: OwnServer, copy: OwnServer, open_store: Callable[..., RedisStore]
) -> None:
    store = open_store(server.url, wait_replicas=1)
    epoch = (await store.claim(0, "w")).epoch
    made = step(epoch, payload=b"p", writes=[write("user", (USER, b"one")), write("device", (USER, b"d"))])
    assert await store.commit([made]) == [CommitResult(APPLIED, 1)]
    assert await user_blob(open_store(copy.url)) == b"one"
    assert (await store.health()).replicas == 1


@pytest.mark.case("Redis that is full or short of replicas")
async def test_without_enough_copies_nothing_counts_and_the_fence_remembers(
    runner: asyncio.Runner, server: OwnServer, copy: OwnServer, open_store: Callable[..., RedisStore]
) -> None:
    # Both servers write to disk before they answer, which may take a while: who must succeed is patient.
    epoch = (await open_store(server.url, wait_replicas=1).claim(0, "w")).epoch
    copy.kill()
    store = open_store(server.url, wait_replicas=1, wait_ms=100, patience_ms=1_500)
    with pytest.raises(StoreUnavailableError, match=r"NOREPLICAS 0 copies.*wants 1"):
        await store.commit([step(epoch, payload=b"p")])
    with pytest.raises(StoreUnavailableError, match="NOREPLICAS"):  # what is in the outbox has no copy yet: nobody publishes it
        await store.claim(0, "heir")
    copy.start()
    assert await asyncio.to_thread(wait_until, lambda: _follows(copy), 30)
    claim = await open_store(server.url, wait_replicas=1).claim(0, "heir")
    assert (claim.commit, dict(claim.outbox)) == (1, {1: b"p"})


async def test_a_commit_waits_until_the_copy_is_back(
    runner: asyncio.Runner, server: OwnServer, copy: OwnServer, open_store: Callable[..., RedisStore]
) -> None:
    store = open_store(server.url, wait_replicas=1, wait_ms=100)
    epoch = (await store.claim(0, "w")).epoch
    copy.kill()
    waiting = asyncio.create_task(store.commit([step(epoch, payload=b"p", writes=[write("user", (USER, b"one"))])]))
    with redis.Redis.from_url(server.url) as admin:
        await asyncio.to_thread(wait_until, lambda: admin.info("commandstats").get("cmdstat_wait", {}).get("calls", 0) > 2, 20)
    await asyncio.to_thread(copy.start)
    assert await waiting == [CommitResult(APPLIED, 1)], "its own first try, told by the fence"
    assert await user_blob(store) == b"one"


async def test_a_commit_whose_answer_was_lost_waits_for_its_copies_all_the_same(
    runner: asyncio.Runner, server: OwnServer, copy: OwnServer, open_store: Callable[..., RedisStore]
) -> None:
    # The second try writes nothing, and is made on a new connection: WAIT alone would know of no write to wait for.
    async with LossyProxy(server.url) as proxy:
        patient = open_store(server.url, wait_replicas=1)
        epoch = (await patient.claim(0, "w")).epoch
        await patient.commit([step(epoch, payload=b"p")])
        store = open_store(proxy.url, wait_replicas=1, wait_ms=100, patience_ms=1_500)
        await store.health()  # connected
        copy.kill()
        proxy.lose_next("reply")
        with pytest.raises(StoreUnavailableError, match="NOREPLICAS"):
            await store.commit([step(epoch, ranges={"clicks": (10, 11)}, payload=b"q", after=1)])
        assert proxy.lost == 1


@pytest.mark.case("keys of Redis evicted")
async def test_a_server_that_throws_keys_away_is_noticed(
    runner: asyncio.Runner, server: OwnServer, open_store: Callable[..., RedisStore], caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(server.url)
    with redis.Redis.from_url(server.url) as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
        await store.claim(0, "w")
        assert not caplog.records, "without a limit nothing is evicted"
        admin.config_set("maxmemory", str(admin.info("memory")["used_memory"] + 3_000_000))
        with caplog.at_level(logging.WARNING):
            warned = open_store(server.url)
            epoch = (await warned.claim(1, "w")).epoch
            await warned.claim(2, "w")
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "maxmemory-policy allkeys-lru" in caplog.text
        assert "Set maxmemory-policy to noeviction" in caplog.text
        before = await warned.health()
        assert (before.may_evict, before.policy, before.evicted) == (True, "allkeys-lru", 0)
        assert 0 < before.used_bytes < before.limit_bytes
        for at in range(60):
            writes = [write("user", (b"%016d" % at, bytes(100_000)))]
            await warned.commit([step(epoch, group=1, ranges={"clicks": (at, at + 1)}, writes=writes, after=at)])
        assert (await warned.health()).evicted > 0


@pytest.mark.case("Redis failover behind one address")
async def test_a_demoted_primary_is_left_when_the_address_leads_to_the_new_one(
    runner: asyncio.Runner, server: OwnServer, copy: OwnServer, open_store: Callable[..., RedisStore]
) -> None:
    async with LossyProxy(server.url) as proxy:
        store = open_store(proxy.url, wait_replicas=1, patience_ms=8_000)
        epoch = (await store.claim(0, "w")).epoch
        assert await store.commit([step(epoch, payload=b"p")]) == [CommitResult(APPLIED, 1)]
        with redis.Redis.from_url(copy.url) as new, redis.Redis.from_url(server.url) as old:
            new.replicaof("NO", "ONE")
            old.replicaof("127.0.0.1", copy.port)
        proxy.lead_to(copy.url)
        again = step(epoch, ranges={"clicks": (10, 11)}, payload=b"q", after=1)
        assert await store.commit([again]) == [CommitResult(APPLIED, 2)]
