"""Faults of a server: lost scripts, connections and answers, downtime; and the expiry of keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from devservices.ports import free_port
from devservices.process import wait_until
from stream_app.admin.doctor import examined
from stream_app.admin.doctor_services import check_redis
from stream_app.errors import ConfigError, ContractError, StoreUnavailableError
from stream_app.store.port import CommitResult, Store
from stream_app.store.redis_cluster import RedisClusterStore
from stream_app.store.redis_retry import with_retries
from stream_app.store.redis_store import RedisOptions, RedisStore
from tests.contract.lossy_proxy import LossyProxy
from tests.contract.own_server import OwnServer
from tests.contract.steps import (
    APPLIED,
    DEVICE,
    GROUPS,
    REPEATED,
    SHARED,
    TTL_MS,
    USER,
    commit,
    rows,
    step,
    user_blob,
    write,
)


@pytest.fixture
def admin(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.mark.redis
async def test_state_expires_and_the_index_of_holders_outlives_it(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis, redis_prefix: str
) -> None:
    epoch = (await redis_store.claim(3, "w")).epoch
    writes = [write("user", (USER, b"u")), write("device", (DEVICE, b"d"))]
    await redis_store.commit([step(epoch, group=3, payload=b"p", writes=writes)])
    left = {key.removeprefix(redis_prefix.encode()): admin.pttl(key) for key in admin.scan_iter(f"{redis_prefix}*", count=10_000)}
    state = {key: ttl for key, ttl in left.items() if USER.hex().encode() in key or DEVICE.hex().encode() in key}
    index = state.pop(b":holders:device:" + DEVICE.hex().encode())
    assert len(state) == 2
    assert all(TTL_MS - 60_000 < ttl <= TTL_MS for ttl in state.values())
    assert index > max(state.values()) + 86_400_000  # a replica written up to a day later is still found
    others = {key for key in left if key not in state and b"holders" not in key}
    assert {left[key] for key in others} == {-1}, "position and outbox never expire"


@pytest.mark.redis
async def test_a_holder_is_announced_again_after_a_day(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = f"{redis_prefix}:holders:device:{DEVICE.hex()}"
    epoch = (await redis_store.claim(3, "w")).epoch

    async def write_at(at: int) -> None:
        made = step(epoch, group=3, ranges={"clicks": (at, at + 1)}, writes=[write("device", (DEVICE, b"d"))], after=at)
        assert await commit(redis_store, made) == [APPLIED]

    await write_at(0)
    admin.delete(index)
    await write_at(1)
    assert not admin.exists(index), "known holders cost no command"
    loop = asyncio.get_running_loop()
    later = loop.time() + 90_000
    monkeypatch.setattr(loop, "time", lambda: later)
    await write_at(2)
    monkeypatch.undo()
    assert admin.getbit(index, 3) == 1
    assert admin.pttl(index) > TTL_MS + 86_400_000


@pytest.mark.case("scripts flushed")
@pytest.mark.redis
async def test_a_server_without_our_scripts_gets_them_again(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis
) -> None:
    epoch = (await redis_store.claim(0, "w")).epoch
    for at in range(3):
        admin.script_flush()
        writes = [write("user", (USER, b"%d" % at))]
        made = step(epoch, ranges={"clicks": (at, at + 1)}, payload=b"p", writes=writes, after=at)
        assert await redis_store.commit([made]) == [CommitResult(APPLIED, at + 1)]
        admin.script_flush()
        assert await user_blob(redis_store) == b"%d" % at
        admin.script_flush()
        await redis_store.mark_published(0, epoch, [at + 1])
    admin.script_flush()
    assert dict((await redis_store.claim(0, "w")).outbox) == {}


@pytest.mark.case("scripts flushed")
@pytest.mark.redis
async def test_scripts_that_are_flushed_just_after_they_were_loaded_are_loaded_again(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis
) -> None:
    epoch, load = (await redis_store.claim(0, "w")).epoch, redis_store._redis.script_load
    loads: list[Any] = []

    async def load_in_vain(script: Any) -> Any:
        loads.append(await load(script))
        if len(loads) < 3:
            admin.script_flush()
        return loads[-1]

    redis_store._redis.script_load = load_in_vain  # type: ignore[method-assign]  # the very method
    admin.script_flush()
    assert await redis_store.commit([step(epoch, ranges={"clicks": (0, 1)}, payload=b"p")]) == [CommitResult(APPLIED, 1)]
    assert len(loads) == 3


@pytest.mark.case("connections to Redis cut")
@pytest.mark.redis
async def test_connections_that_were_killed_are_replaced(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis
) -> None:
    epoch = (await redis_store.claim(0, "w")).epoch
    for at in range(3):
        admin.client_kill_filter(_id=str(await redis_store._redis.client_id()))
        assert await commit(redis_store, step(epoch, ranges={"clicks": (at, at + 1)}, after=at)) == [APPLIED]
    assert (await redis_store.claim(0, "w")).commit == 3


@pytest.mark.case("connections to Redis cut")
@pytest.mark.redis
@pytest.mark.parametrize("lost", ["request", "reply"])
async def test_a_commit_whose_connection_breaks_under_way_counts_once(
    runner: asyncio.Runner, redis_url: str, open_store: Callable[..., RedisStore], lost: str
) -> None:
    async with LossyProxy(redis_url) as proxy:
        store = open_store(proxy.url)
        first, second = (await store.claim(0, "w")).epoch, (await store.claim(1, "w")).epoch
        steps = [
            step(first, payload=b"p", writes=[write("device", (DEVICE, b"0"))]),
            step(second, group=1, payload=b"q", writes=[write("device", (DEVICE, b"1"))]),
        ]
        await store.commit(steps)
        proxy.lose_next(lost)
        steps = [
            step(first, ranges={"clicks": (10, 20)}, payload=b"r", after=1),
            step(second, group=1, ranges={"clicks": (10, 11)}, after=1),
        ]
        assert await store.commit(steps) == [CommitResult(APPLIED, 2), CommitResult(APPLIED, 2)]
        assert proxy.lost == 1
        claim = await store.claim(0, "w")
        assert (dict(claim.fronts), claim.commit, dict(claim.outbox)) == ({"clicks": 20}, 2, {1: b"p", 2: b"r"})


@pytest.mark.redis
async def test_calls_that_are_cancelled_leave_no_answer_for_the_next(runner: asyncio.Runner, redis_store: RedisStore) -> None:
    # A batch that is given up is cancelled wherever it waits; its connection must not hand its answer to another call.
    epoch = (await redis_store.claim(0, "w")).epoch
    await redis_store.commit([step(epoch, ranges={"orders": (0, 1)}, writes=[write("user", (b"fixed", b"value"))])])
    for turns in range(60):
        front = dict((await redis_store.claim(1, "w")).fronts).get("clicks", 0)
        mine = (await redis_store.claim(1, "w")).epoch
        made = step(mine, group=1, ranges={"clicks": (front, front + 1)}, payload=b"p" * 50_000, after=front)
        calls = [asyncio.create_task(redis_store.commit([made])), asyncio.create_task(redis_store.read(rows("user", (0, b"?"))))]
        for _ in range(turns):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await user_blob(redis_store, key=b"fixed") == b"value"
        claim = await redis_store.claim(1, "w")
        assert claim.fronts.get("clicks", 0) == claim.commit == len(claim.outbox)


@pytest.mark.redis
async def test_a_repeated_commit_of_another_call_is_no_success(
    runner: asyncio.Runner, redis_url: str, open_store: Callable[..., RedisStore]
) -> None:
    # Only the retry of one call may take `repeated` for its own success.
    async with LossyProxy(redis_url) as proxy:
        store = open_store(proxy.url)
        epoch = (await store.claim(0, "w")).epoch
        proxy.lose_next("reply")
        assert await commit(store, step(epoch)) == [APPLIED]
        assert await commit(store, step(epoch)) == [REPEATED]


@pytest.mark.redis
@pytest.mark.parametrize("lost", ["request", "reply"])
async def test_a_claim_whose_connection_breaks_under_way_draws_once(
    runner: asyncio.Runner, redis_url: str, open_store: Callable[..., RedisStore], lost: str
) -> None:
    async with LossyProxy(redis_url) as proxy:
        store = open_store(proxy.url)
        await store.read({})  # connected
        await store.claim(1, "w")  # the script is loaded
        proxy.lose_next(lost)
        assert (await store.claim(0, "w")).epoch.startswith("1:w:")
        assert proxy.lost == 1


@pytest.mark.case("keys of Redis evicted")
@pytest.mark.redis
@pytest.mark.parametrize("gone", ["meta", "commit"])
async def test_a_position_of_which_a_part_is_gone_is_refused(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis, redis_prefix: str, gone: str
) -> None:
    epoch = (await redis_store.claim(0, "w")).epoch
    await redis_store.commit([step(epoch, payload=b"p")])
    admin.delete(f"{redis_prefix}:{{g0}}:{gone}")
    left = admin.dump(f"{redis_prefix}:{{g0}}:{'commit' if gone == 'meta' else 'meta'}")
    with pytest.raises(ContractError, match=r"g0.*evicted.*Operator action"):
        await redis_store.claim(0, "w")
    assert not admin.exists(f"{redis_prefix}:{{g0}}:{gone}")
    assert admin.dump(f"{redis_prefix}:{{g0}}:{'commit' if gone == 'meta' else 'meta'}") == left


@pytest.mark.redis
async def test_what_redis_refuses_for_good_is_said_at_once(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis, redis_prefix: str
) -> None:
    epoch = (await redis_store.claim(0, "w")).epoch
    admin.set(f"{redis_prefix}:{{g0}}:outbox", "not a hash")
    with pytest.raises(ContractError, match="Operator action"):
        await redis_store.commit([step(epoch, payload=b"p")])


async def test_a_server_that_is_away_is_waited_for_and_then_reported(
    runner: asyncio.Runner, open_store: Callable[..., RedisStore]
) -> None:
    port = free_port("nobody listens here")
    store = open_store(f"redis://127.0.0.1:{port}/0", patience_ms=400)
    with pytest.raises(StoreUnavailableError, match="is it running"):
        await store.claim(0, "w")
    with pytest.raises(StoreUnavailableError):
        await store.commit([step("1:w")])
    with pytest.raises(StoreUnavailableError):
        await store.read(rows("user", (0, USER)))
    with pytest.raises(StoreUnavailableError):
        await store.mark_published(0, "1:w", [1])


@pytest.mark.parametrize("kind", [RedisStore, RedisClusterStore])
@pytest.mark.parametrize("asks", [lambda store: store.claim(0, "w"), lambda store: store.layouts({"tag": "{}"})])
async def test_a_claim_and_the_layouts_before_it_give_up_earlier_than_a_commit(
    runner: asyncio.Runner,
    redis_prefix: str,
    kind: type[RedisStore | RedisClusterStore],
    asks: Callable[[Store], Awaitable[object]],
) -> None:
    # No heartbeat is sent while it waits. The server accepts the connection and says nothing.
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        store = kind(url, prefix=redis_prefix, groups=GROUPS, shared_kinds=SHARED, options=RedisOptions(claim_patience_ms=300))
        with pytest.raises(StoreUnavailableError, match="no answer for 300 ms"):
            await asks(store)
        await store.close()


@pytest.mark.case("Redis that is full or short of replicas")
@pytest.mark.redis
@pytest.mark.parametrize(
    ("setting", "refusing", "word"), [("min-replicas-to-write", "1", "NOREPLICAS"), ("maxmemory", "1", "OOM|OutOfMemory")]
)
async def test_a_refusal_that_passes_is_waited_for_and_then_named(
    runner: asyncio.Runner,
    real_services: object,
    open_store: Callable[..., RedisStore],
    tmp_path: Path,
    setting: str,
    refusing: str,
    word: str,
) -> None:
    with OwnServer(tmp_path) as server:
        store = open_store(server.url)
        epoch = (await store.claim(0, "w")).epoch
        with redis.Redis.from_url(server.url) as admin:
            admin.config_set(setting, refusing)
            with pytest.raises(StoreUnavailableError, match=word):
                await open_store(server.url, patience_ms=300).commit([step(epoch, payload=b"p")])
            before = _scripts_run(admin)
            waiting = asyncio.create_task(store.commit([step(epoch, payload=b"p", writes=[write("user", (USER, b"one"))])]))
            await asyncio.to_thread(wait_until, lambda: _scripts_run(admin) > before + 1, 20)
            admin.config_set(setting, "0")
        assert await waiting == [CommitResult(APPLIED, 1)]
        assert await user_blob(store) == b"one"


def _scripts_run(admin: redis.Redis) -> int:
    calls: dict[str, dict[str, int]] = admin.info("commandstats")
    return calls.get("cmdstat_evalsha", {}).get("calls", 0)


@pytest.mark.case("Redis killed and started again")
@pytest.mark.redis
async def test_a_server_that_is_killed_and_started_again_goes_on(
    runner: asyncio.Runner, real_services: object, open_store: Callable[..., RedisStore], tmp_path: Path
) -> None:
    with OwnServer(tmp_path) as server:
        store = open_store(server.url)
        epoch = (await store.claim(0, "w")).epoch
        await store.commit([step(epoch, payload=b"p", writes=[write("user", (USER, b"one"))])])
        server.kill()
        waiting = asyncio.create_task(
            store.commit([step(epoch, ranges={"clicks": (10, 11)}, writes=[write("user", (USER, b"two"))], after=1)])
        )
        await asyncio.to_thread(server.start)
        assert await waiting == [CommitResult(APPLIED, 2)]
        assert await user_blob(store) == b"two"


@pytest.mark.case("Redis with another password, port or TLS")
@pytest.mark.redis
@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("redis://:wrong@127.0.0.1:{port}/0", ContractError, "does not let this worker in: .*password"),
        ("redis://127.0.0.1:{port}/0", ContractError, "does not let this worker in: .*authenticated"),
        ("rediss://:right@127.0.0.1:{port}/0", StoreUnavailableError, "nothing came back.*rediss:// for TLS"),
        ("redis://127.0.0.1:{other}/0", StoreUnavailableError, "no answer for 1500 ms .*ConnectionError: .*{other}"),
        ("redis://no-such-host.invalid:6379/0", StoreUnavailableError, "no answer for 1500 ms .*no-such-host.invalid"),
    ],
    ids=["wrong password", "no password", "no TLS", "closed port", "unknown host"],
)
async def test_why_a_server_cannot_be_used_is_told(
    runner: asyncio.Runner,
    real_services: object,
    open_store: Callable[..., RedisStore],
    tmp_path: Path,
    url: str,
    error: type[Exception],
    message: str,
) -> None:
    with OwnServer(tmp_path) as server:
        with redis.Redis.from_url(server.url) as admin:
            admin.config_set("requirepass", "right")
        ports = {"port": server.port, "other": free_port("nobody listens")}
        store = open_store(url.format(**ports), claim_patience_ms=1_500)
        with pytest.raises(error, match=message.format(**ports)):
            await store.claim(0, "w")


async def test_a_script_on_a_demoted_primary_of_redis_6_is_tried_on_a_new_connection(runner: asyncio.Runner) -> None:
    answers: list[object] = [
        "done",
        redis.ResponseError("Error running script (call to f_1): @user_script:42: -READONLY You can't"),
    ]
    lost = []

    async def attempt() -> object:
        if isinstance(answer := answers.pop(), Exception):
            raise answer
        return answer

    async def lost_connection() -> None:
        lost.append(True)

    assert (await with_retries(attempt, 5_000, lost_connection), lost) == ("done", [True])


@pytest.mark.case("Redis with another password, port or TLS")
@pytest.mark.redis
def test_doctor_names_what_is_wrong_with_the_login_and_not_another_server(real_services: object, tmp_path: Path) -> None:
    with OwnServer(tmp_path) as server, redis.Redis.from_url(server.url) as admin:
        admin.acl_setuser("reader", enabled=True, passwords=["+secret"], commands=["+ping"])
        admin.config_set("requirepass", "right")
        for login, option, action in (
            (":wrong@", "", "correct user and password in redis.url"),
            ("", "", "correct user and password in redis.url"),
            ("reader:secret@", "", "this user's rights"),
            (":right@", "?socket_timeout=x", "correct or remove it"),
            (":right@", "?colour=red", "correct or remove it"),
        ):
            url = f"redis://{login}127.0.0.1:{server.port}/0{option}"
            [check] = examined("redis", partial(check_redis, url, "mr", 8, 1_000))
            assert action in check.finding + check.action
            assert "services up" not in check.finding + check.action
        with pytest.raises(ConfigError, match=r"redis-py does not take: .*colour"):
            RedisStore(f"{server.url}?colour=red", prefix="mr", groups=1, shared_kinds=frozenset())


@pytest.mark.case("Redis with another password, port or TLS")
async def test_a_port_that_answers_without_tls_is_refused_at_once(
    runner: asyncio.Runner, open_store: Callable[..., RedisStore]
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"-ERR Protocol error\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        store = open_store(f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
        with pytest.raises(ContractError, match=r"differ about TLS: .*SSL"):
            await store.claim(0, "w")
