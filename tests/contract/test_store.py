"""The contract suite of `stream_app.store.port` for every store: in memory, in Redis and in Redis Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from operator import itemgetter
from random import Random

import pytest

from stream_app.store.port import CommitResult, Erased, Purged, Snapshot, Store
from stream_app.store.replica_selection import select_replicas
from tests.contract.steps import (
    APPLIED,
    BEHIND,
    DEVICE,
    FENCED,
    GROUPS,
    REPEATED,
    USER,
    commit,
    lists,
    rows,
    step,
    user_blob,
    write,
)

# --- claims -------------------------------------------------------------------------------------------------------------


async def test_each_claim_draws_an_epoch_that_nobody_had(store: Store, runner: asyncio.Runner) -> None:
    epochs = [(await store.claim(3, owner)).epoch for owner in ("a", "b", "a", "a")]
    assert len(set(epochs)) == 4


async def test_an_epoch_does_not_repeat_when_the_store_has_lost_its_claim(store: Store, runner: asyncio.Runner) -> None:
    # Another group stands for a store that has drawn nothing yet: same number, same owner.
    first, second = (await store.claim(3, "w")).epoch, (await store.claim(4, "w")).epoch
    assert first.startswith("1:w:")
    assert second.startswith("1:w:")
    assert first != second


async def test_a_group_that_nobody_has_written_has_nothing(store: Store, runner: asyncio.Runner) -> None:
    claim = await store.claim(3, "w")
    assert (dict(claim.fronts), claim.commit, dict(claim.outbox)) == ({}, 0, {})


async def test_a_claim_tells_fronts_commit_number_and_the_outbox_in_order(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    for number in range(12):  # beyond 9, so that the order is one of numbers and not of text
        span = (number * 10, number * 10 + 10)
        await store.commit([step(epoch, ranges={"clicks": span}, payload=b"answers %d" % number, after=number)])
    await store.commit([step(epoch, ranges={"orders": (5, 6)}, after=12)])
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
    hole = step(epoch, ranges={"clicks": (20, 30)}, payload=b"p", writes=[write("user", (USER, b"x"))], after=1)
    [result] = await store.commit([hole])
    assert (result.status, result.commit) == (BEHIND, 1)
    assert await user_blob(store) == b""
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
    assert await commit(store, step(epoch, ranges=ranges, writes=[write("user", (USER, b"x"))], after=1)) == [BEHIND]
    assert await user_blob(store) == b""
    assert dict((await store.claim(0, "w")).fronts) == {"clicks": 10, "orders": 3}


async def test_the_first_step_of_a_topic_may_begin_anywhere(store: Store, runner: asyncio.Runner) -> None:
    # Retention has taken the beginning of a log before anybody read it.
    epoch = (await store.claim(0, "w")).epoch
    assert await commit(store, step(epoch, ranges={"clicks": (7_000_000_000, 7_000_000_005)})) == [APPLIED]
    both = step(epoch, ranges={"orders": (3, 4), "clicks": (7_000_000_005, 7_000_000_006)}, after=1)
    assert await commit(store, both) == [APPLIED]
    assert dict((await store.claim(0, "w")).fronts) == {"clicks": 7_000_000_006, "orders": 4}


async def test_a_dump_is_the_state_and_the_position_of_one_group(store: Store, runner: asyncio.Runner) -> None:
    epochs = [(await store.claim(group, "w")).epoch for group in (0, 1)]
    writes = [write("user", (USER, b"one"), (b"\x00" * 16, b"two")), write("device", (DEVICE, b"three"))]
    await store.commit([step(epochs[0], ranges={"clicks": (0, 7)}, payload=b"answers", writes=writes)])
    await store.commit([step(epochs[1], group=1, writes=[write("user", (USER, b"of another group"))])])
    dumped = await store.dump(0)
    assert (dumped.commit, dict(dumped.fronts)) == (1, {"clicks": 7})
    entities = {kind: list(zip(keys, blobs, strict=True)) for kind, (keys, blobs) in dumped.entities.items()}
    assert entities == {"user": sorted([(USER, b"one"), (b"\x00" * 16, b"two")]), "device": [(DEVICE, b"three")]}


async def test_an_older_epoch_can_no_longer_write(store: Store, runner: asyncio.Runner) -> None:
    old = (await store.claim(0, "zombie")).epoch
    await store.commit([step(old, payload=b"p")])
    new = (await store.claim(0, "heir")).epoch
    late = step(old, ranges={"clicks": (10, 20)}, payload=b"q", writes=[write("user", (USER, b"x"))])
    [result] = await store.commit([late])
    assert (result.status, result.commit) == (FENCED, 1)
    assert new in result.detail
    assert await user_blob(store) == b""
    assert await commit(store, step(new, ranges={"clicks": (10, 20)}, after=1)) == [APPLIED]


async def test_without_a_claim_nothing_is_written(store: Store, runner: asyncio.Runner) -> None:
    assert await commit(store, step("1:nobody", writes=[write("user", (USER, b"x"))])) == [BEHIND]
    assert await user_blob(store) == b""


async def test_a_store_that_has_lost_the_claim_stands_behind(store: Store, runner: asyncio.Runner) -> None:
    # Not `fenced`: no new assignment would come, for nobody else owns the group.
    here = (await store.claim(0, "w")).epoch
    later = here.replace("1:", "2:", 1)
    [result] = await store.commit([step(later)])
    assert (result.status, result.commit) == (BEHIND, 0)
    assert here in result.detail
    assert later in result.detail


async def test_a_step_of_another_topic_does_not_fit_when_a_step_was_lost(store: Store, runner: asyncio.Runner) -> None:
    # The fronts of `orders` fit; that the step of `clicks` before it is gone shows in the commit number alone.
    epoch = (await store.claim(0, "w")).epoch
    await store.commit([step(epoch, ranges={"clicks": (0, 10), "orders": (0, 3)}, payload=b"first")])
    made = step(epoch, ranges={"orders": (3, 5)}, payload=b"x", writes=[write("user", (USER, b"x"))], published=[1, 2], after=2)
    [result] = await store.commit([made])
    assert (result.status, result.commit) == (BEHIND, 1)
    assert "commit 1, step after 2" in result.detail
    assert await user_blob(store) == b""
    claim = await store.claim(0, "heir")
    assert (dict(claim.fronts), dict(claim.outbox)) == ({"clicks": 10, "orders": 3}, {1: b"first"})


async def test_a_step_that_was_read_before_another_commit_is_refused(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    assert await commit(store, step(epoch, ranges={"clicks": (0, 10)})) == [APPLIED]
    assert await commit(store, step(epoch, ranges={"orders": (0, 3)}, after=0)) == [BEHIND]
    assert await commit(store, step(epoch, ranges={"clicks": (0, 10)}, after=1)) == [BEHIND]


async def test_a_step_never_drops_its_own_answers(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    await store.commit([step(epoch, payload=b"first")])
    await store.commit([step(epoch, ranges={"clicks": (10, 11)}, payload=b"second", published=[1, 2, 3], after=1)])
    assert dict((await store.claim(0, "w")).outbox) == {2: b"second"}


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
    assert list(snapshot.own["user"]) == [b"1", b"", b"3"]


# --- outbox -------------------------------------------------------------------------------------------------------------


async def test_the_outbox_holds_answers_until_they_are_marked(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    for at in range(4):
        await store.commit([step(epoch, ranges={"clicks": (at, at + 1)}, payload=b"p%d" % at, after=at)])
    await store.mark_published(0, epoch, [1, 3])
    await store.mark_published(0, epoch, [])
    claim = await store.claim(0, "w")
    assert dict(claim.outbox) == {2: b"p1", 4: b"p3"}
    await store.commit(
        [step(claim.epoch, ranges={"clicks": (4, 5)}, published=[2, 4], after=4)]
    )  # marked with the group's next step
    assert dict((await store.claim(0, "w")).outbox) == {}


async def test_published_answers_are_kept_for_a_while(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    for at in range(4):
        marked = [2] if at == 3 else []
        await store.commit([step(epoch, ranges={"clicks": (at, at + 1)}, payload=b"p%d" % at, published=marked, after=at)])
    await store.mark_published(0, epoch, [1, 1])
    assert dict((await store.claim(0, "w")).outbox) == {3: b"p2", 4: b"p3"}
    assert await store.answers(0, [4, 1, 2, 9]) == {4: b"p3", 1: b"p0", 2: b"p1"}
    assert await store.answers(0, []) == {}
    assert await store.answers(1, [1]) == {}


async def test_a_stale_epoch_marks_nothing(store: Store, runner: asyncio.Runner) -> None:
    stale = (await store.claim(0, "zombie")).epoch
    await store.commit([step(stale, payload=b"p")])
    await store.claim(0, "heir")
    await store.mark_published(0, stale, [1])
    assert dict((await store.claim(0, "w")).outbox) == {1: b"p"}


async def test_numbers_that_the_store_has_not_drawn_mark_nothing(store: Store, runner: asyncio.Runner) -> None:
    # It has lost commit 2 and will draw the number again, for other answers; whoever says this stands beside the store.
    epoch = (await store.claim(0, "w")).epoch
    await store.commit([step(epoch, payload=b"p")])
    await store.mark_published(0, epoch, [1, 2])
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
    assert list(snapshot.own["user"]) == [b"B", b"", b"A", b""]
    assert dict(snapshot.others) == {}


async def test_a_read_of_nothing_still_tells_the_commit_numbers(store: Store, runner: asyncio.Runner) -> None:
    for group, commits in ((0, 2), (5, 1)):
        epoch = (await store.claim(group, "w")).epoch
        for at in range(commits):
            await store.commit([step(epoch, group=group, ranges={"clicks": (at, at + 1)}, after=at)])
    reads = dict((await store.read({})).reads)
    assert reads == {**dict.fromkeys(range(GROUPS), 0), 0: 2, 5: 1}


async def test_a_shared_entity_is_kept_once_a_group_and_read_over_all(store: Store, runner: asyncio.Runner) -> None:
    for group in range(20):
        epoch = (await store.claim(group, "w")).epoch
        await store.commit([step(epoch, group=group, writes=[write("device", (DEVICE, b"of %d" % group))])])
    snapshot = await store.read(rows("device", (7, DEVICE), (22, DEVICE), (7, b"other")))
    assert list(snapshot.own["device"]) == [b"of 7", b"", b""]
    others = snapshot.others["device"]
    assert lists(others) == [
        [b"of %d" % group for group in (*range(8, 20), *range(7))],
        [b"of %d" % group for group in range(20)],
        [],
    ]
    assert (others.held.tolist(), others.asked.tolist()) == ([19, 20, 0], [19, 20, 0])


async def test_kinds_of_both_sorts_are_read_together(store: Store, runner: asyncio.Runner) -> None:
    for group in (0, 9):
        epoch = (await store.claim(group, "w")).epoch
        writes = [write("user", (USER, b"user %d" % group)), write("device", (USER, b"device %d" % group))]
        await store.commit([step(epoch, group=group, writes=writes)])
    entity_rows = {**rows("device", (0, USER), (9, USER)), **rows("user", (9, USER))}
    snapshot = await store.read(entity_rows)
    assert list(snapshot.own["device"]) == [b"device 0", b"device 9"]
    assert lists(snapshot.others["device"]) == [[b"device 9"], [b"device 0"]]
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
    assert lists(snapshot.others["device"]) == [[every]]


async def test_thousands_of_entities_fit_one_batch(store: Store, runner: asyncio.Runner) -> None:
    keys = [b"%016d" % number for number in range(9_000)]  # more than a script may pass to one command
    epoch = (await store.claim(0, "w")).epoch
    await store.commit([step(epoch, writes=[write("user", *((key, key) for key in keys))])])
    snapshot = await store.read(rows("user", *((0, key) for key in keys)))
    assert list(snapshot.own["user"]) == keys


async def test_rows_of_nothing_find_nothing(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    await store.commit([step(epoch, writes=[write("user"), write("device"), write("user", (USER, b"one"))])])
    snapshot = await store.read({**rows("device"), **rows("user", (0, USER)), **rows("session")})
    assert {kind: list(blobs) for kind, blobs in snapshot.own.items()} == {"device": [], "user": [b"one"], "session": []}
    assert {kind: lists(replicas) for kind, replicas in snapshot.others.items()} == {"device": []}
    assert await store.commit([]) == []
    assert await store.commit([step(epoch, ranges={"clicks": (10, 11)}, after=1)]) == [CommitResult(APPLIED, 2)]


async def test_keys_of_every_length_are_kept_apart(store: Store, runner: asyncio.Runner) -> None:
    keys = [b"a" * 16, b"a" * 24, b"a" * 15 + b"b", b"b", b"a" * 16 + b"b" * 8]
    epoch = (await store.claim(0, "w")).epoch
    writes = [write(kind, *((key, kind.encode() + key) for key in keys)) for kind in ("user", "device", "session")]
    await store.commit([step(epoch, writes=writes)])
    entity_rows = {kind: rows(kind, *((0, key) for key in reversed(keys)))[kind] for kind in ("session", "device", "user")}
    snapshot = await store.read(entity_rows)
    for kind in entity_rows:
        assert list(snapshot.own[kind]) == [kind.encode() + key for key in reversed(keys)]


# --- many holders -------------------------------------------------------------------------------------------------------


@pytest.fixture
def wide_store(new_store: Callable[..., Store]) -> Store:
    """A store of 300 groups, of which a read asks at most 32."""
    return new_store(groups=300, max_replicas=32)


async def test_of_hundreds_of_holders_a_read_asks_the_next_ones_alone(wide_store: Store, runner: asyncio.Runner) -> None:
    epochs = {group: (await wide_store.claim(group, "w")).epoch for group in range(300)}
    rare = {7: b"rare of 7", 280: b"rare of 280"}
    steps = [step(epochs[group], group=group, writes=[write("device", *_replicas_of(group, rare))]) for group in range(300)]
    await wide_store.commit(steps)
    entity_rows = rows("device", (10, DEVICE), (7, b"rare"), (290, DEVICE), (299, b"rare"))
    replicas = (await wide_store.read(entity_rows)).others["device"]
    assert lists(replicas) == [
        [b"of %d" % group for group in range(11, 43)],
        [rare[280]],
        [b"of %d" % group for group in (*range(291, 300), *range(23))],
        [rare[7], rare[280]],
    ]
    assert (replicas.held.tolist(), replicas.asked.tolist()) == ([299, 1, 299, 2], [32, 1, 32, 2])


def _replicas_of(group: int, rare: Mapping[int, bytes]) -> list[tuple[bytes, bytes]]:
    common = [(DEVICE, b"of %d" % group)]
    return [*common, (b"rare", rare[group])] if group in rare else common


@pytest.mark.parametrize("seed", range(3))
async def test_any_index_of_holders_is_read_as_the_rule_says(wide_store: Store, runner: asyncio.Runner, seed: int) -> None:
    random = Random(seed)
    keys = [b"device %d" % number for number in range(12)]
    holders = {key: sorted(random.sample(range(300), random.choice([0, 1, 2, 31, 32, 33, 34, 120]))) for key in keys}
    for group in sorted(set().union(*holders.values())):
        epoch = (await wide_store.claim(group, "w")).epoch
        mine = [(key, b"%d %s" % (group, key)) for key in keys if group in holders[key]]
        await wide_store.commit([step(epoch, group=group, writes=[write("device", *mine)])])
    pairs = sorted(((random.randrange(300), random.choice(keys)) for _ in range(60)), key=itemgetter(0))
    pairs = list(dict.fromkeys(pairs))
    replicas = (await wide_store.read(rows("device", *pairs))).others["device"]
    rule = [select_replicas(holders[key], group, 32) for group, key in pairs]
    assert lists(replicas) == [
        [b"%d %s" % (group, key) for group in groups] for (_, key), (groups, _) in zip(pairs, rule, strict=True)
    ]
    assert replicas.held.tolist() == [held for _, held in rule]
    assert replicas.asked.tolist() == [len(groups) for groups, _ in rule]


# --- beside the batches -------------------------------------------------------------------------------------------------


async def test_what_blobs_look_like_is_written_once(store: Store, runner: asyncio.Runner) -> None:
    assert await store.topic_ids({"clicks": "a"}) == {"clicks": "a"}
    assert await store.topic_ids({"clicks": "b", "orders": "c"}) == {"clicks": "a", "orders": "c"}
    assert await store.layouts({}) == {}
    assert await store.layouts({"01": "first", "02": "second"}) == {"01": "first", "02": "second"}
    assert await store.layouts({"02": "other", "03": "drei\u00df"}) == {"01": "first", "02": "second", "03": "drei\u00df"}
    assert await store.layouts({}) == {"01": "first", "02": "second", "03": "drei\u00df"}


async def test_a_user_is_erased_with_all_that_hangs_on_it_and_nothing_else(store: Store, runner: asyncio.Runner) -> None:
    other = b"v" * 16
    for group in (0, 1):
        epoch = (await store.claim(group, "w")).epoch
        writes = [
            write("user", (USER, b"u"), (other, b"o")),
            write("session", (USER + b"1" * 8, b"u"), (USER + b"2" * 8, b"u"), (other + b"1" * 8, b"o")),
            write("device", (DEVICE, b"d")),
        ]
        await store.commit([step(epoch, group=group, payload=b"p", writes=writes)])
    erased = await store.erase(0, USER)
    assert (dict(erased.keys), erased.total, erased.commit) == ({"user": 1, "session": 2}, 3, 1)
    assert await store.erase(0, USER) == Erased({}, 1)
    kept = await store.read(
        {
            **rows("user", (0, USER), (0, other), (1, USER)),
            **rows("session", (0, USER + b"1" * 8), (0, other + b"1" * 8), (1, USER + b"2" * 8)),
            **rows("device", (0, DEVICE)),
        }
    )
    assert list(kept.own["user"]) == [b"", b"o", b"u"]
    assert list(kept.own["session"]) == [b"", b"o", b"u"]
    assert list(kept.own["device"]) == [b"d"]
    assert dict((await store.claim(0, "w")).outbox) == {1: b"p"}


async def test_a_person_is_taken_out_of_kept_answers_and_owed_ones_wait(store: Store, runner: asyncio.Runner) -> None:
    epoch = (await store.claim(0, "w")).epoch
    for at, payload in enumerate([b"ann+bob", b"ann", b"bob", b"ann+eve"]):
        await store.commit([step(epoch, ranges={"clicks": (at, at + 1)}, payload=payload, after=at)])
    await store.mark_published(0, epoch, [1, 2, 3])

    def without_ann(payload: bytes) -> bytes | None:
        people = payload.split(b"+")
        return b"+".join(person for person in people if person != b"ann") if b"ann" in people else None

    assert await store.purge_answers(0, without_ann) == Purged(cleaned=2, waiting=(4,))
    assert await store.answers(0, [1, 2, 3, 4]) == {1: b"bob", 3: b"bob", 4: b"ann+eve"}
    assert dict((await store.claim(0, "w")).outbox) == {4: b"ann+eve"}
    assert await store.purge_answers(1, without_ann) == Purged()
    await store.mark_published(0, (await store.claim(0, "w")).epoch, [4])
    assert await store.purge_answers(0, without_ann) == Purged(cleaned=1)
    assert await store.answers(0, [4]) == {4: b"eve"}


async def test_a_store_that_may_grow_loses_nothing(store: Store, runner: asyncio.Runner) -> None:
    health = await store.health()
    assert (health.evicted, health.may_evict) == (0, False)
