"""One suite for every store: what `stream_app.store.port` promises, of the reference in memory and of Redis alike.

Below it stands what only a server can do to us: it loses its scripts, its connections, its last answers, or is away.
"""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import redis

from stream_app.errors import ContractError, StoreUnavailableError
from stream_app.features.columns import EntityRows
from stream_app.services.ports import free_port
from stream_app.services.probe import redis_answers
from stream_app.services.process import wait_until
from stream_app.services.redis_server import DURABLE, redis_conf
from stream_app.store.memory import MemoryStore
from stream_app.store.port import CommitResult, CommitStatus, GroupStep, Snapshot, StateWrite, Store
from stream_app.store.redis_store import RedisStore
from tests.contract.lossy_proxy import LossyProxy

GROUPS = 24
SHARED = frozenset({"device"})
TTL_MS = 3_600_000
USER, DEVICE = b"u" * 16, b"d" * 16
APPLIED, REPEATED, FENCED, BEHIND = CommitStatus.APPLIED, CommitStatus.REPEATED, CommitStatus.FENCED, CommitStatus.BEHIND


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore(GROUPS, SHARED)
    over_redis: RedisStore = request.getfixturevalue("redis_store")
    return over_redis


@pytest.fixture
def open_store(redis_prefix: str, runner: asyncio.Runner) -> Iterator[Callable[..., RedisStore]]:
    """Opens stores over a given server, to be closed at the end."""
    opened: list[RedisStore] = []

    def new(url: str, patience_ms: int = 60_000) -> RedisStore:
        store = RedisStore(url, prefix=redis_prefix, groups=GROUPS, shared_kinds=SHARED, patience_ms=patience_ms)
        opened.append(store)
        return store

    yield new
    for store in opened:
        runner.run(store.close())


@pytest.fixture
def redis_store(redis_url: str, open_store: Callable[..., RedisStore]) -> RedisStore:
    return open_store(redis_url)


def rows(kind: str, *pairs: tuple[int, bytes]) -> dict[str, EntityRows]:
    groups = np.array([group for group, _ in pairs], np.int32)
    return {kind: EntityRows(groups, [key for _, key in pairs], np.arange(len(pairs), dtype=np.int32))}


def write(kind: str, *blobs: tuple[bytes, bytes]) -> StateWrite:
    return StateWrite(kind, kind in SHARED, [key for key, _ in blobs], [blob for _, blob in blobs], TTL_MS)


def step(
    epoch: str,
    *,
    group: int = 0,
    ranges: Mapping[str, tuple[int, int]] | None = None,
    payload: bytes = b"",
    writes: Sequence[StateWrite] = (),
    published: Sequence[int] = (),
) -> GroupStep:
    return GroupStep(group, epoch, ranges or {"clicks": (0, 10)}, payload, writes, published)


async def commit(store: Store, *steps: GroupStep) -> list[CommitStatus]:
    return [result.status for result in await store.commit(steps)]


async def user_blob(store: Store, group: int = 0, key: bytes = USER) -> bytes | None:
    return (await store.read(rows("user", (group, key)))).own["user"][0]


# --- claims -------------------------------------------------------------------------------------------------------------


async def test_each_claim_draws_an_epoch_that_nobody_had(store: Store, runner: asyncio.Runner) -> None:
    epochs = [(await store.claim(3, owner)).epoch for owner in ("a", "b", "a", "a")]
    assert len(set(epochs)) == 4


async def test_a_group_that_nobody_has_written_has_nothing(store: Store, runner: asyncio.Runner) -> None:
    claim = await store.claim(3, "w")
    assert (dict(claim.fronts), claim.commit, dict(claim.outbox)) == ({}, 0, {})


async def test_a_claim_tells_fronts_commit_number_and_the_outbox_in_order(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    for number in range(12):  # beyond 9, so that the order is one of numbers and not of text
        span = (number * 10, number * 10 + 10)
        await store.commit([step(epoch, ranges={"clicks": span}, payload=b"answers %d" % number)])
    await store.commit([step(epoch, ranges={"orders": (5, 6)})])
    claim = await store.claim(0, "heir")
    assert dict(claim.fronts) == {"clicks": 120, "orders": 6}
    assert claim.commit == 13
    assert list(claim.outbox.items()) == [(number + 1, b"answers %d" % number) for number in range(12)]


# --- commits ------------------------------------------------------------------------------------------------------------


async def test_a_step_at_the_front_is_applied_whole(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    made = step(epoch, ranges={"clicks": (0, 10), "orders": (4, 7)}, payload=b"p", writes=[write("user", (USER, b"one"))])
    assert await store.commit([made]) == [CommitResult(APPLIED, 1)]
    assert await user_blob(store) == b"one"
    claim = await store.claim(0, "w")
    assert dict(claim.fronts) == {"clicks": 10, "orders": 7}
    assert dict(claim.outbox) == {1: b"p"}


async def test_a_repeated_step_changes_nothing(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    await store.commit([step(epoch, payload=b"first", writes=[write("user", (USER, b"one"))])])
    again = step(epoch, payload=b"second", writes=[write("user", (USER, b"two"))], published=[1])
    [result] = await store.commit([again])
    assert (result.status, result.commit) == (REPEATED, 1)
    assert "front 10" in result.detail
    assert "0" in result.detail
    assert await user_blob(store) == b"one"
    assert dict((await store.claim(0, "w")).outbox) == {1: b"first"}


async def test_a_step_beyond_the_front_is_refused(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    await store.commit([step(epoch, ranges={"clicks": (0, 10)})])
    hole = step(epoch, ranges={"clicks": (20, 30)}, payload=b"p", writes=[write("user", (USER, b"x"))])
    [result] = await store.commit([hole])
    assert (result.status, result.commit) == (BEHIND, 1)
    assert await user_blob(store) is None
    claim = await store.claim(0, "w")
    assert (dict(claim.fronts), dict(claim.outbox)) == ({"clicks": 10}, {})


@pytest.mark.parametrize(
    "ranges",
    [{"clicks": (5, 15)}, {"clicks": (0, 20)}, {"clicks": (10, 20), "orders": (0, 3)}, {"clicks": (0, 10), "orders": (3, 5)}],
    ids=["begins inside", "begins before and ends behind", "one topic repeated", "the other topic repeated"],
)
async def test_a_step_that_is_half_applied_is_refused_whole(
    store: Store, runner: asyncio.Runner, ranges: Mapping[str, tuple[int, int]]
) -> None:
    epoch = (await store.claim(0, "w")).epoch
    await store.commit([step(epoch, ranges={"clicks": (0, 10), "orders": (0, 3)})])
    assert await commit(store, step(epoch, ranges=ranges, writes=[write("user", (USER, b"x"))])) == [BEHIND]
    assert await user_blob(store) is None
    assert dict((await store.claim(0, "w")).fronts) == {"clicks": 10, "orders": 3}


async def test_the_first_step_of_a_topic_may_begin_anywhere(store: Store, runner: asyncio.Runner) -> None:
    # Retention has taken the beginning of a log before anybody read it.
    epoch = (await store.claim(0, "w")).epoch
    assert await commit(store, step(epoch, ranges={"clicks": (7_000_000_000, 7_000_000_005)})) == [APPLIED]
    assert await commit(store, step(epoch, ranges={"orders": (3, 4), "clicks": (7_000_000_005, 7_000_000_006)})) == [APPLIED]
    assert dict((await store.claim(0, "w")).fronts) == {"clicks": 7_000_000_006, "orders": 4}


async def test_an_older_epoch_can_no_longer_write(store: Store, runner: asyncio.Runner) -> None:
    old = (await store.claim(0, "zombie")).epoch
    await store.commit([step(old, payload=b"p")])
    new = (await store.claim(0, "heir")).epoch
    late = step(old, ranges={"clicks": (10, 20)}, payload=b"q", writes=[write("user", (USER, b"x"))])
    [result] = await store.commit([late])
    assert (result.status, result.commit) == (FENCED, 1)
    assert new in result.detail
    assert await user_blob(store) is None
    assert await commit(store, step(new, ranges={"clicks": (10, 20)})) == [APPLIED]


async def test_without_a_claim_nothing_is_written(store: Store, runner: asyncio.Runner) -> None:
    assert await commit(store, step("1:nobody", writes=[write("user", (USER, b"x"))])) == [FENCED]
    assert await user_blob(store) is None


async def test_groups_do_not_depend_on_each_other(store: Store, runner: asyncio.Runner) -> None:
    first, stale = (await store.claim(1, "w")).epoch, (await store.claim(2, "w")).epoch
    await store.claim(2, "other")
    steps = [
        step(first, group=1, writes=[write("user", (USER, b"1"))]),
        step(stale, group=2, writes=[write("user", (USER, b"2"))]),
        step((await store.claim(3, "w")).epoch, group=3, writes=[write("user", (USER, b"3"))]),
    ]
    results = await store.commit(steps)
    assert [result.status for result in results] == [APPLIED, FENCED, APPLIED]
    assert [result.commit for result in results] == [1, 0, 1]
    snapshot = await store.read(rows("user", (1, USER), (2, USER), (3, USER)))
    assert list(snapshot.own["user"]) == [b"1", None, b"3"]


# --- outbox -------------------------------------------------------------------------------------------------------------


async def test_the_outbox_holds_answers_until_they_are_marked(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    for at in range(4):
        await store.commit([step(epoch, ranges={"clicks": (at, at + 1)}, payload=b"p%d" % at)])
    await store.mark_published(0, epoch, [1, 3])
    await store.mark_published(0, epoch, [])
    claim = await store.claim(0, "w")
    assert dict(claim.outbox) == {2: b"p1", 4: b"p3"}
    await store.commit([step(claim.epoch, ranges={"clicks": (4, 5)}, published=[2, 4])])  # marked with the group's next step
    assert dict((await store.claim(0, "w")).outbox) == {}


async def test_a_stale_epoch_marks_nothing(store: Store, runner: asyncio.Runner) -> None:
    stale = (await store.claim(0, "zombie")).epoch
    await store.commit([step(stale, payload=b"p")])
    await store.claim(0, "heir")
    await store.mark_published(0, stale, [1])
    assert dict((await store.claim(0, "w")).outbox) == {1: b"p"}


async def test_a_commit_without_answers_leaves_the_outbox_as_it_is(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    await store.commit([step(epoch, payload=b"")])
    assert dict((await store.claim(0, "w")).outbox) == {}


# --- reads --------------------------------------------------------------------------------------------------------------


async def test_a_read_gives_own_blobs_in_order_and_none_for_the_unknown(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    await store.commit([step(epoch, writes=[write("user", (b"a", b"A"), (b"b", b"B"))])])
    snapshot = await store.read(rows("user", (0, b"b"), (0, b"?"), (0, b"a"), (1, b"a")))
    assert list(snapshot.own["user"]) == [b"B", None, b"A", None]
    assert dict(snapshot.others) == {}


async def test_a_read_of_nothing_still_tells_the_commit_numbers(store: Store, runner: asyncio.Runner) -> None:
    for group, commits in ((0, 2), (5, 1)):
        epoch = (await store.claim(group, "w")).epoch
        for at in range(commits):
            await store.commit([step(epoch, group=group, ranges={"clicks": (at, at + 1)})])
    reads = dict((await store.read({})).reads)
    assert reads == {**dict.fromkeys(range(GROUPS), 0), 0: 2, 5: 1}


async def test_a_shared_entity_is_kept_once_a_group_and_read_over_all(store: Store, runner: asyncio.Runner) -> None:
    for group in range(20):
        epoch = (await store.claim(group, "w")).epoch
        await store.commit([step(epoch, group=group, writes=[write("device", (DEVICE, b"of %d" % group))])])
    snapshot = await store.read(rows("device", (7, DEVICE), (22, DEVICE), (7, b"other")))
    assert list(snapshot.own["device"]) == [b"of 7", None, None]
    assert sorted(snapshot.others["device"][0]) == sorted(b"of %d" % group for group in range(20) if group != 7)
    assert len(snapshot.others["device"][1]) == 20
    assert list(snapshot.others["device"][2]) == []


async def test_kinds_of_both_sorts_are_read_together(store: Store, runner: asyncio.Runner) -> None:
    for group in (0, 9):
        epoch = (await store.claim(group, "w")).epoch
        writes = [write("user", (USER, b"user %d" % group)), write("device", (USER, b"device %d" % group))]
        await store.commit([step(epoch, group=group, writes=writes)])
    wanted = {**rows("device", (0, USER), (9, USER)), **rows("user", (9, USER))}
    snapshot = await store.read(wanted)
    assert list(snapshot.own["device"]) == [b"device 0", b"device 9"]
    assert [list(found) for found in snapshot.others["device"]] == [[b"device 9"], [b"device 0"]]
    assert list(snapshot.own["user"]) == [b"user 9"]
    assert snapshot.reads[0] == snapshot.reads[9] == 1


async def test_bytes_of_every_value_come_back_as_they_went(store: Store, runner: asyncio.Runner) -> None:
    every = bytes(range(256)) + b"\r\n\0"
    epoch = (await store.claim(0, "w")).epoch
    await store.commit(
        [step(epoch, payload=every, writes=[write("user", (every[:16], every)), write("device", (every[-16:], every))])]
    )
    assert await user_blob(store, key=every[:16]) == every
    assert dict((await store.claim(0, "w")).outbox) == {1: every}
    snapshot: Snapshot = await store.read(rows("device", (1, every[-16:])))
    assert list(snapshot.others["device"][0]) == [every]


async def test_thousands_of_entities_fit_one_batch(store: Store, runner: asyncio.Runner) -> None:
    keys = [b"%016d" % number for number in range(9_000)]  # more than a script may pass to one command
    epoch = (await store.claim(0, "w")).epoch
    await store.commit([step(epoch, writes=[write("user", *((key, key) for key in keys))])])
    snapshot = await store.read(rows("user", *((0, key) for key in keys)))
    assert list(snapshot.own["user"]) == keys


# --- Redis alone --------------------------------------------------------------------------------------------------------


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
    left = {key.removeprefix(redis_prefix.encode()): admin.pttl(key) for key in admin.scan_iter(f"{redis_prefix}*")}
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
        made = step(epoch, group=3, ranges={"clicks": (at, at + 1)}, writes=[write("device", (DEVICE, b"d"))])
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


@pytest.mark.redis
async def test_a_server_without_our_scripts_gets_them_again(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis
) -> None:
    epoch = (await redis_store.claim(0, "w")).epoch
    for at in range(3):
        admin.script_flush()
        made = step(epoch, ranges={"clicks": (at, at + 1)}, payload=b"p", writes=[write("user", (USER, b"%d" % at))])
        assert await redis_store.commit([made]) == [CommitResult(APPLIED, at + 1)]
        admin.script_flush()
        assert await user_blob(redis_store) == b"%d" % at
        admin.script_flush()
        await redis_store.mark_published(0, epoch, [at + 1])
    admin.script_flush()
    assert dict((await redis_store.claim(0, "w")).outbox) == {}


@pytest.mark.redis
async def test_connections_that_were_killed_are_replaced(
    runner: asyncio.Runner, redis_store: RedisStore, admin: redis.Redis
) -> None:
    epoch = (await redis_store.claim(0, "w")).epoch
    for at in range(3):
        admin.client_kill_filter(_id=str(await redis_store._redis.client_id()))
        assert await commit(redis_store, step(epoch, ranges={"clicks": (at, at + 1)})) == [APPLIED]
    assert (await redis_store.claim(0, "w")).commit == 3


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
        steps = [step(first, ranges={"clicks": (10, 20)}, payload=b"r"), step(second, group=1, ranges={"clicks": (10, 11)})]
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
        made = step(mine, group=1, ranges={"clicks": (front, front + 1)}, payload=b"p" * 50_000)
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


class OwnServer:
    """A durable redis-server of this test alone, to be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port(secrets.token_hex(4))
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self._folder / "redis.conf"
        config.write_text(redis_conf(self.port, self._folder, DURABLE.replace("everysec", "always")))
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(["redis-server", str(config)], stdout=log, stderr=log)
        assert wait_until(lambda: redis_answers(self.port), 20)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@pytest.mark.redis
async def test_a_server_that_is_killed_and_started_again_goes_on(
    runner: asyncio.Runner, real_services: object, open_store: Callable[..., RedisStore], tmp_path: Path
) -> None:
    server = OwnServer(tmp_path)
    server.start()
    try:
        store = open_store(server.url)
        epoch = (await store.claim(0, "w")).epoch
        await store.commit([step(epoch, payload=b"p", writes=[write("user", (USER, b"one"))])])
        server.kill()
        waiting = asyncio.create_task(
            store.commit([step(epoch, ranges={"clicks": (10, 11)}, writes=[write("user", (USER, b"two"))])])
        )
        await asyncio.to_thread(server.start)
        assert await waiting == [CommitResult(APPLIED, 2)]
        assert await user_blob(store) == b"two"
    finally:
        server.kill()
