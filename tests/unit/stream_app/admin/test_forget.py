"""A person is erased, nobody else is, and a worker that works meanwhile cannot bring them back unseen."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from stream_app.admin.forget import ForgetReport, ForgetTimeouts, forget, group_of
from stream_app.clock import SettableClock
from stream_app.codec.outbox import decode_outbox
from stream_app.events import Event
from stream_app.pipeline import BatchCommit
from stream_app.store.port import CommitStatus, Erased
from tests.scoring import BASE_MS, Record, make_events, record_of, scoring_engine, topic_of
from tests.scoring_run import GROUPS, Run, new_run, spans_of

CALLED_MS = BASE_MS + 700_000  # after all events of `make_events`
SHORT = ForgetTimeouts(total_ms=400, idle_ms=20)
USER, OTHER = "u-1", "u-5"
EVENTS = make_events(80, users=[USER, OTHER], devices=["d-1", "d-2"])


class Shop:
    """A worker's pipeline and the records that it is given, each user in the partition that Kafka's partitioner gives."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.store = run.store
        self._ends: Counter[tuple[str, int]] = Counter()
        self.epochs: dict[int, str] = {}

    def records(self, events: Sequence[Event], group: int | None = None) -> list[Record]:
        made = []
        for event in events:
            place = (topic_of(event), group_of(event.user, GROUPS) if group is None else group)
            made.append(record_of(event, place[1], self._ends[place]))
            self._ends[place] += 1
        return made

    async def scored(self, events: Sequence[Event], group: int | None = None) -> BatchCommit:
        """A batch between its read and its commit."""
        if not self.epochs:
            self.epochs = {number: (await self.store.claim(number, "w")).epoch for number in range(GROUPS)}
        records = self.records(events, group)
        prepared = self.run.pipeline.prepare(spans_of(records, self.epochs), [(record.topic, record) for record in records])
        return await self.run.pipeline.score(prepared)

    async def commit(self, scored: BatchCommit) -> None:
        assert {result.status for result in await self.store.commit(scored.steps)} == {CommitStatus.APPLIED}

    async def publish(self) -> None:
        for number, epoch in self.epochs.items():
            await self.store.mark_published(number, epoch, list(self.store._groups[number].outbox))

    async def apply(self, events: Sequence[Event], group: int | None = None) -> None:
        """A whole batch, its answers published."""
        await self.commit(await self.scored(events, group))
        await self.publish()

    async def forget(self, user: str = USER, patience: ForgetTimeouts = SHORT) -> ForgetReport:
        return await forget(self.store, scoring_engine(), self.digest(user), user, GROUPS, SettableClock(CALLED_MS), patience)

    def digest(self, user: str) -> bytes:
        return self.run.pipeline.identity.digest("user", user)

    def kinds_of(self, user: str) -> Counter[str]:
        """How many keys there are of the user, by kind."""
        return Counter(kind for _, kind, key in self.store.state() if key.startswith(self.digest(user)))

    def answers_to(self, user: str) -> int:
        """How many messages to the user the store holds."""
        payloads = [p for group in self.store._groups for p in (*group.kept.values(), *group.outbox.values())]
        found = [messages.keys.count(user.encode()) for p in payloads for messages in decode_outbox(p).topics.values()]
        return sum(found)


@pytest.fixture
def shop() -> Iterator[Shop]:
    run = new_run()
    yield Shop(run)
    run.pipeline.model_thread.shutdown()


def returned(event: Event) -> Event:
    """The event once more, as of after the call."""
    return msgspec.structs.replace(event, event_id=f"{event.event_id}-again", event_time_ms=CALLED_MS + 5_000)


def after_each_pass(shop: Shop, happens: Callable[[int], Awaitable[None]]) -> None:
    """Do something right after each erasing pass, with its number."""
    erase, passes = shop.store.erase, 0

    async def erase_and_more(group: int, user_key: bytes) -> Erased:
        nonlocal passes
        erased = await erase(group, user_key)
        passes += 1
        await happens(passes)
        return erased

    shop.store.erase = erase_and_more  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("user", "murmur2"),  # from Kafka's own test, clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_the_group_is_the_partition_that_kafkas_default_partitioner_chooses(user: str, murmur2: int) -> None:
    for partitions in (1, 3, 8, 1_024):
        assert group_of(user, partitions) == (murmur2 & 0x7FFFFFFF) % partitions


def test_all_of_one_person_goes_and_nothing_of_anybody_else(shop: Shop) -> None:
    async def scenario() -> None:
        await shop.apply(EVENTS)
        mine, theirs = shop.kinds_of(USER), shop.kinds_of(OTHER)
        assert set(mine) == {"user", "session", "user_category"}
        shared = {place: blob for place, blob in shop.store.state().items() if place[1] not in mine}
        answers = shop.answers_to(OTHER)
        assert shop.answers_to(USER) > 40
        done = await shop.forget()
        assert done.proved
        assert done.erased == {**mine, "answers": 1}
        assert (done.group, done.groups) == (group_of(USER, GROUPS), (group_of(USER, GROUPS),))
        assert (done.oldest_ms, done.waiting) == (None, ())
        assert "no commit for" in done.seen[done.group]
        assert (shop.kinds_of(USER), shop.answers_to(USER)) == (Counter(), 0)
        assert (shop.kinds_of(OTHER), shop.answers_to(OTHER)) == (theirs, answers)
        assert {place: blob for place, blob in shop.store.state().items() if place[1] not in mine} == shared

    asyncio.run(scenario())


def test_a_person_who_was_never_there_is_proved_not_to_be(shop: Shop) -> None:
    async def scenario() -> None:
        await shop.apply(EVENTS)
        done = await shop.forget("u-2")
        assert done.proved
        assert not done.erased.total()

    asyncio.run(scenario())


def test_a_batch_that_was_read_before_and_commits_after_brings_nothing_back(shop: Shop) -> None:
    async def scenario() -> None:
        await shop.apply(EVENTS[:60])
        under_way = await shop.scored(EVENTS[60:])

        async def commits(number: int) -> None:
            if number == 1:
                await shop.commit(under_way)
                assert shop.kinds_of(USER)["user"] == 1, "it is back"
                await shop.publish()

        after_each_pass(shop, commits)
        done = await shop.forget()
        assert done.proved
        assert done.erased["user"] == 2
        assert (shop.kinds_of(USER), shop.answers_to(USER)) == (Counter(), 0)

    asyncio.run(scenario())


def test_what_the_person_does_meanwhile_may_go_and_what_comes_after_the_end_stays(shop: Shop) -> None:
    old = next(event for event in EVENTS if event.user == USER)
    came: list[str] = []

    async def comes_back(number: int) -> None:
        came.append(f"new-{number}")
        await shop.apply([msgspec.structs.replace(returned(old), event_id=came[-1])])

    def sequence() -> list[int]:
        """Commit numbers of what the user's state remembers to have been done."""
        place = (group_of(USER, GROUPS), "user", shop.digest(USER))
        found: Any = scoring_engine().describe("user", shop.store.state()[place])["sequence"]
        return [interaction["commit"] for interaction in found]

    async def scenario() -> None:
        await shop.apply(EVENTS)
        after_each_pass(shop, comes_back)
        done = await shop.forget()
        assert done.proved
        assert done.oldest_ms == CALLED_MS + 5_000
        assert len(came) == 2, "two passes in a row saw nothing older than the call"
        last = 1 + len(came)
        assert done.erased["user"] == 2, "the second pass took what was done after the first"
        assert sequence() == [last], "nothing of the time before the call is left"
        assert shop.answers_to(USER) == 2 * len(came), "answers are told apart: of what was done since the call none is gone"
        await comes_back(3)
        assert sequence() == [last, last + 1], "what is done after the end adds up"

    asyncio.run(scenario())


def test_answers_that_are_owed_are_waited_for(shop: Shop) -> None:
    async def scenario() -> None:
        await shop.commit(await shop.scored(EVENTS))
        done = await shop.forget()
        assert not done.proved
        assert done.waiting == ((group_of(USER, GROUPS), 1),)
        assert shop.kinds_of(USER) == Counter(), "the state is gone all the same"

        async def published(_: int) -> None:
            await shop.publish()

        after_each_pass(shop, published)
        done = await shop.forget()
        assert done.proved
        assert (done.waiting, shop.answers_to(USER)) == ((), 0)

    asyncio.run(scenario())


def test_a_backlog_of_old_events_is_said_not_to_be_proved(shop: Shop) -> None:
    async def scenario() -> None:
        await shop.apply(EVENTS[:40])
        rest: Any = iter([event for event in EVENTS[40:] if event.user == USER] * 9)

        async def reads_on(number: int) -> None:
            await shop.apply([msgspec.structs.replace(next(rest), event_id=f"backlog-{number}")])

        after_each_pass(shop, reads_on)
        done = await shop.forget(patience=ForgetTimeouts(total_ms=50, idle_ms=20))
        assert not done.proved
        assert done.oldest_ms is not None
        assert done.oldest_ms < CALLED_MS

    asyncio.run(scenario())


def test_state_in_a_group_that_another_partitioner_chose_is_found(shop: Shop) -> None:
    elsewhere = (group_of(USER, GROUPS) + 1) % GROUPS

    async def scenario() -> None:
        await shop.apply(EVENTS[:20], group=elsewhere)
        done = await shop.forget()
        assert done.proved
        assert done.groups == tuple(sorted({elsewhere, group_of(USER, GROUPS)}))
        assert (shop.kinds_of(USER), shop.answers_to(USER)) == (Counter(), 0)

    asyncio.run(scenario())


def test_it_may_be_called_again_and_again(shop: Shop) -> None:
    async def scenario() -> None:
        await shop.apply(EVENTS)
        assert (await shop.forget()).proved
        again = await shop.forget()
        assert again.proved
        assert not again.erased.total()

    asyncio.run(scenario())
