"""The acceptance cases of the guarantee on real Redis, each with the fence and, to show that the case is one, without it.

With the fence every case ends in the same state as if nothing had happened: each event counted once for its user and for all that
users of several groups share (device, address, card, item, ...), each answer published, repeated answers the same to the byte.
Without it the same check of the same case fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest
from numpy.typing import NDArray

from stream_app.errors import ContractError, FencedError, StoreRolledBackError
from stream_app.inference.ranker import PriorRanker
from stream_app.ranked import RankedBatch
from tests.chaos.world import Killed, Worker, World

pytestmark = [pytest.mark.redis]

Case = Callable[[World], Awaitable[None]]


async def start(world: World) -> Worker:
    worker = Worker(world)
    await worker.claim()
    return worker


async def a_batch_delivered_twice(world: World) -> None:
    """A, A: the offsets' commit was lost, the next owner gets the batch again."""
    await (await start(world)).deliver(*world.batch(0), commit_offsets=False)
    await (await start(world)).deliver(*world.batch(0))


async def an_old_batch_after_a_newer_one(world: World) -> None:
    """A, B, A."""
    first = await start(world)
    await first.deliver(*world.batch(0))
    await first.deliver(*world.batch(1))
    await (await start(world)).deliver(*world.batch(0), commit_offsets=False)


async def a_hole(world: World) -> None:
    """A, C: the transport skips a batch, for a worker that has been here all the time and for a new one."""
    first = await start(world)
    await first.deliver(*world.batch(0))
    with pytest.raises(ContractError, match="offsets are missing"):  # its own tracker detects it
        await first.deliver(*world.batch(2))
    second = await start(world)
    with refused_if_fenced(world, ContractError):
        await second.deliver(*world.batch(2))


async def a_hole_that_only_the_store_sees(world: World) -> None:
    """A, C: the worker's own tracker has lost its position."""
    worker = await start(world)
    await worker.deliver(*world.batch(0))
    for ownership in worker.handler._ownership.owned().values():
        ownership.fronts.clear()
    with refused_if_fenced(world, StoreRolledBackError):
        await worker.deliver(*world.batch(2))


async def a_replay_across_a_bucket_boundary(world: World) -> None:
    """All batches once, then all of them again in batches cut otherwise: tiles of every window begin in between."""
    await world.run_to_end(size=2)
    for place in world.committed:
        world.committed[place] = 0


async def redis_restored_to_two_seconds_ago(world: World) -> None:
    """The state of two batches is gone, and the worker does not know."""
    worker = await start(world)
    await worker.deliver(*world.batch(0))
    snapshot = world.snapshot()
    await worker.deliver(*world.batch(1))
    await worker.deliver(*world.batch(2))
    world.restore(snapshot)
    with refused_if_fenced(world, StoreRolledBackError):
        await worker.deliver(*world.batch(3))


async def another_topic_follows_the_lost_step(world: World) -> None:
    """The step of clicks is lost, the next one holds orders only: their front fits, and only the commit number tells.

    The store loses it between read and commit, as the read would see it, too.
    """
    worker = await start(world)
    await worker.deliver(*world.batch(0))
    snapshot = world.snapshot()
    await worker.deliver(*world.batch_of("clicks", 1))
    commit = worker.store.commit

    async def lose_and_commit(steps: Any) -> Any:
        world.restore(snapshot)
        return await commit(steps)

    worker.store.commit = lose_and_commit
    with refused_if_fenced(world, StoreRolledBackError):
        await worker.deliver(*world.batch_of("orders", 1))


async def a_group_without_events_has_lost_its_step(world: World) -> None:
    """Group 0 steps back and is idle: any batch that is read tells the worker."""
    worker = await start(world)
    await worker.deliver(*world.batch(0))
    snapshot = world.snapshot()
    await worker.deliver(*(part for part in world.batch(1) if part[1] == 0))
    world.restore(snapshot)
    with refused_if_fenced(world, StoreRolledBackError):
        await worker.deliver(*(part for part in world.batch(1) if part[1] == 1))


class WaitingRanker(PriorRanker):
    """A model that answers when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go_on = threading.Event(), threading.Event()

    def rank(self, inputs: Mapping[str, NDArray[Any]], users: Sequence[bytes]) -> RankedBatch:
        self.entered.set()
        assert self.go_on.wait(20)
        return super().rank(inputs, users)


async def two_workers_that_both_believe_they_own_a_partition(world: World) -> None:
    """The first has read its state and waits for the model, the second takes over, then the first goes on."""
    ranker = WaitingRanker()
    first = Worker(world, ranker=ranker)
    await first.claim()
    late = asyncio.create_task(first.deliver(*world.batch(0), commit_offsets=False))
    assert await asyncio.to_thread(ranker.entered.wait, 20)
    second = await start(world)
    for number in range(3):
        await second.deliver(*world.batch(number))
    ranker.go_on.set()
    with refused_if_fenced(world, FencedError):
        await late


async def two_zombies_and_an_heir(world: World) -> None:
    """Two workers in a row have read their state and wait for the model, a third takes over, then both go on."""
    rankers = [WaitingRanker(), WaitingRanker()]
    late = []
    for ranker in rankers:
        zombie = Worker(world, ranker=ranker)
        await zombie.claim()
        late.append(asyncio.create_task(zombie.deliver(*world.batch(0), commit_offsets=False)))
        assert await asyncio.to_thread(ranker.entered.wait, 20)
    heir = await start(world)
    for number in range(2):
        await heir.deliver(*world.batch(number))
    for ranker, task in zip(rankers, late, strict=True):
        ranker.go_on.set()
        with refused_if_fenced(world, FencedError):
            await task


async def one_group_of_a_batch_is_a_zombies(world: World) -> None:
    """Of a batch over three groups that share their devices, one group goes to another worker: only its step is refused."""
    ranker = WaitingRanker()
    first = Worker(world, ranker=ranker)
    await first.claim()
    late = asyncio.create_task(first.deliver(*world.batch(0), commit_offsets=False))
    assert await asyncio.to_thread(ranker.entered.wait, 20)
    second = Worker(world)
    await second.claim(1)
    for number in range(2):
        await second.deliver(*(part for part in world.batch(number) if part[1] == 1))
    ranker.go_on.set()
    with refused_if_fenced(world, FencedError):
        await late


async def a_group_at_a_time(world: World) -> None:
    """A, B, A of two groups on the same devices: the second owner of one group goes on while the other's batch comes again."""
    first, second = Worker(world), Worker(world)
    await first.claim(0)
    await second.claim(1)
    for number in range(2):
        for worker, group in ((first, 0), (second, 1)):
            await worker.deliver(*(part for part in world.batch(number) if part[1] == group))
    heir = Worker(world)
    await heir.claim(0)
    await heir.deliver(*(part for part in world.batch(0) if part[1] == 0), commit_offsets=False)
    await second.deliver(*(part for part in world.batch(2) if part[1] == 1))


async def two_workers_that_take_turns(world: World) -> None:
    """Both write, one after the other, and neither learns of the other but from the store."""
    first, second = await start(world), await start(world)
    for number in range(2):
        for worker in (second, first):
            with refused_if_fenced(world, FencedError) if worker is first else contextlib.nullcontext():
                await worker.deliver(*world.batch(number))


async def an_operator_rewinds_the_group(world: World) -> None:
    """Offsets back to the beginning, workers started again."""
    worker = await start(world)
    for number in range(3):
        await worker.deliver(*world.batch(number))
    for place in world.committed:
        world.committed[place] = 0


async def killed_in(world: World, break_worker: Callable[[Worker], None]) -> None:
    """A worker that dies in its second batch."""
    worker = await start(world)
    await worker.deliver(*world.batch(0))
    break_worker(worker)
    with pytest.raises(Killed):
        await worker.deliver(*world.batch(1))


def dying(function: Callable[..., Awaitable[Any]], *, after: bool) -> Callable[..., Awaitable[Any]]:
    async def die(*arguments: Any) -> Any:
        if after:
            await function(*arguments)
        raise Killed

    return die


async def killed_before_the_read(world: World) -> None:
    await killed_in(world, lambda worker: setattr(worker.store, "read", dying(worker.store.read, after=False)))


async def killed_before_the_commit(world: World) -> None:
    await killed_in(world, lambda worker: setattr(worker.store, "commit", dying(worker.store.commit, after=False)))


async def killed_after_the_commit(world: World) -> None:
    await killed_in(world, lambda worker: setattr(worker.store, "commit", dying(worker.store.commit, after=True)))


async def killed_between_the_commits_of_two_groups(world: World) -> None:
    """One group's step of the batch is applied, those of the others are not; all of them touch the same devices."""

    def half_way(worker: Worker) -> None:
        commit = worker.store.commit

        async def commit_one_group(steps: Sequence[Any]) -> None:
            await commit(steps[:1])
            raise Killed

        worker.store.commit = commit_one_group

    await killed_in(world, half_way)


async def killed_while_publishing(world: World) -> None:
    def half_way(worker: Worker) -> None:
        publish = worker.publisher.publish

        async def publish_one_group(groups: Iterable[Any]) -> None:
            await publish(list(groups)[:1])
            raise Killed

        worker.publisher.publish = publish_one_group

    await killed_in(world, half_way)


async def killed_after_publishing(world: World) -> None:
    await killed_in(world, lambda worker: setattr(worker.publisher, "publish", dying(worker.publisher.publish, after=True)))


async def killed_before_the_offsets_are_committed(world: World) -> None:
    worker = await start(world)
    await worker.deliver(*world.batch(0))
    await worker.deliver(*world.batch(1), commit_offsets=False)


async def killed_while_publishing_again(world: World) -> None:
    """The heirs die when they have published none, and one part, of the outbox; the next one publishes all of it."""
    await killed_after_the_commit(world)
    for after in (False, True):
        heir = Worker(world)
        heir.publisher.publish = dying(heir.publisher.publish, after=after)
        with pytest.raises(Killed):
            await heir.claim()


def refused_if_fenced(world: World, error: type[Exception]) -> contextlib.AbstractContextManager[Any]:
    return pytest.raises(error) if world.fence else contextlib.nullcontext()


HARMLESS: list[Case] = [killed_before_the_read, killed_before_the_commit]  # nothing has happened yet: no fence is needed
CASES: list[Case] = [
    a_batch_delivered_twice,
    an_old_batch_after_a_newer_one,
    a_hole,
    a_hole_that_only_the_store_sees,
    a_replay_across_a_bucket_boundary,
    redis_restored_to_two_seconds_ago,
    another_topic_follows_the_lost_step,
    a_group_without_events_has_lost_its_step,
    two_workers_that_both_believe_they_own_a_partition,
    two_zombies_and_an_heir,
    one_group_of_a_batch_is_a_zombies,
    a_group_at_a_time,
    two_workers_that_take_turns,
    an_operator_rewinds_the_group,
    killed_between_the_commits_of_two_groups,
    killed_after_the_commit,
    killed_while_publishing,
    killed_after_publishing,
    killed_before_the_offsets_are_committed,
    killed_while_publishing_again,
]


def play(case: Case, url: str, prefix: str, *, fence: bool) -> World:
    async def played() -> World:
        world = World(url, prefix, fence=fence)
        try:
            await case(world)
            await world.run_to_end()
            await world.check()
        finally:
            await world.close()
        return world

    return asyncio.run(played())


def named(case: Case) -> str:
    return case.__name__


@pytest.mark.parametrize("case", [*CASES, *HARMLESS], ids=named)
def test_every_event_counts_once_and_repeated_answers_are_the_same(case: Case, redis_url: str, redis_prefix: str) -> None:
    play(case, redis_url, redis_prefix, fence=True)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_without_the_fence_the_same_check_fails(case: Case, redis_url: str, redis_prefix: str) -> None:
    with pytest.raises(AssertionError, match=r"^(miscounted|missing|foreign|differing): "):
        play(case, redis_url, redis_prefix, fence=False)


@pytest.mark.parametrize("fence", [True, False])
def test_without_a_fault_the_fence_makes_no_difference(redis_url: str, redis_prefix: str, *, fence: bool) -> None:
    async def nothing_happens(world: World) -> None:
        worker = await start(world)
        await worker.deliver(*world.batch(0))
        await worker.hand_over()

    world = play(nothing_happens, redis_url, redis_prefix, fence=fence)
    assert len(world.published) == len({value for *_, value in world.published}), "nothing was published twice"
