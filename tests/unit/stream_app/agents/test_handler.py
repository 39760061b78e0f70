"""The handler's order: nothing is published before it is committed, nothing leaves the outbox before it is published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from stream_app.agents.handler import ScoringHandler
from stream_app.agents.ownership import OwnershipTracker
from stream_app.agents.ports import Chunk, LogPosition, TopicPartition
from stream_app.agents.publisher import Publisher
from stream_app.clock import SettableClock
from stream_app.codec.outbox import Messages, decode_outbox
from stream_app.errors import AbandonedError, BrokerUnavailableError, ContractError, FencedError, StoreRolledBackError
from stream_app.metrics import Metrics
from stream_app.store.memory import MemoryStore
from stream_app.store.port import Claim, CommitResult, CommitStatus, GroupStep, StoreHealth
from tests.scoring import make_events, record_of, scoring_engine, scoring_pipeline

PREFIX = "pre-"
SEARCHES, CLICKS, ORDERS = (TopicPartition(f"pre-{topic}", 0) for topic in ("searches", "clicks", "orders"))
EVENTS = make_events(40, users=["u-1"], devices=["d"])
RECORDS = [record_of(event, 0, 0) for event in EVENTS]
SHARED = frozenset(kind.name for kind in scoring_engine().kinds if kind.shared)


@dataclass
class Desk:
    """A handler over a store in memory, and a log of what it does to its neighbours."""

    store: MemoryStore = field(default_factory=lambda: MemoryStore(2, SHARED))
    did: list[str] = field(default_factory=list)
    published: list[tuple[str, bytes]] = field(default_factory=list)
    broken: type[Exception] | None = None  # what publishing raises
    held: asyncio.Event | None = None  # what publishing waits for

    def __post_init__(self) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.pipeline = scoring_pipeline(self.store, SettableClock(5))
        self.handler = ScoringHandler(
            pipeline=self.pipeline,
            ownership=OwnershipTracker(2),
            publisher=_NotedPublisher(self),
            metrics=self.metrics,
            topic_prefix=PREFIX,
            owner="w",
        )
        commit = self.store.commit

        async def noted(steps: Sequence[GroupStep]) -> list[CommitResult]:
            self.did.append("commit")
            return await commit(steps)

        self.store.commit = noted  # type: ignore[method-assign]  # the very method, with a note

    async def assigned(self, *, groups: int = 1, generation: int = 1) -> Mapping[TopicPartition, int]:
        places = {place._replace(partition=group) for place in (SEARCHES, CLICKS, ORDERS) for group in range(groups)}
        return await self.handler.on_assigned(frozenset(places), generation)

    async def handle(self, *chunks: Chunk) -> None:
        await self.handler.handle(chunks, _Barrier(self))

    async def outbox(self) -> list[int]:
        return list((await self.store.claim(0, "looks")).outbox)

    def count(self, name: str) -> float:
        value = self.metrics.__dict__[name]._value.get()
        return float(value)


class _NotedPublisher(Publisher):
    def __init__(self, desk: Desk) -> None:
        super().__init__("", topic_prefix="", client_id="")
        self._desk = desk

    async def start(self) -> None:
        self._desk.did.append("start")

    async def stop(self) -> None:
        self._desk.did.append("stop")

    async def publish(self, groups: Iterable[tuple[int, Mapping[str, Messages]]]) -> dict[str, int]:
        self._desk.did.append("publish")
        if self._desk.held is not None:
            await self._desk.held.wait()
        if self._desk.broken is not None:
            raise self._desk.broken("on purpose")
        counts: dict[str, int] = {}
        for _, topics in groups:
            for topic, messages in topics.items():
                counts[topic] = counts.get(topic, 0) + len(messages.values)
                self._desk.published.extend((topic, value) for value in messages.values)
        return counts


class _Barrier:
    def __init__(self, desk: Desk, *, abandoned: bool = False) -> None:
        self._desk, self._abandoned = desk, abandoned

    async def wait_previous_committed(self) -> None:
        self._desk.did.append("wait")
        if self._abandoned:
            raise AbandonedError("on purpose")

    def mark_committed(self) -> None:
        self._desk.did.append("committed")


def chunk(topic: str, start: int, end: int, group: int = 0) -> Chunk:
    """Offsets [start, end) of a group, each with a valid event."""
    kind = "click" if topic == "clicks" else "order"
    fitting = [event for event in EVENTS if type(event).__name__.lower() == kind]
    records: list[Any] = [record_of(fitting[offset % len(fitting)], group, offset) for offset in range(start, end)]
    return Chunk(PREFIX + topic, group, start, end, 1, records)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.pipeline.model_thread.shutdown()


def ran(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def test_the_steps_come_in_the_order_that_the_guarantee_rests_on(desk: Desk) -> None:
    async def scenario() -> None:
        assert await desk.assigned() == {SEARCHES: 0, CLICKS: 0, ORDERS: 0}
        await desk.handle(chunk("clicks", 0, 3), chunk("orders", 0, 2))

    ran(scenario)
    assert desk.did == ["start", "wait", "commit", "committed", "publish"]
    assert sorted(topic for topic, _ in desk.published) == ["intent-labels"] * 5 + ["journal"] + ["recommendation-candidates"] * 5


def test_what_is_published_is_what_was_committed_without_reading_it_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads: list[bytes] = []
    commit = desk.store.commit

    async def noted(steps: Sequence[GroupStep]) -> list[CommitResult]:
        payloads.extend(step.payload for step in steps)
        return await commit(steps)

    desk.store.commit = noted  # type: ignore[method-assign]

    async def scenario() -> None:
        await desk.assigned()
        with monkeypatch.context() as patch:
            patch.delattr("stream_app.agents.handler.decode_outbox")
            await desk.handle(chunk("clicks", 0, 3), chunk("orders", 0, 2))

    ran(scenario)
    [payload] = payloads
    expected = decode_outbox(payload).with_journal(1)
    assert desk.published == [(topic, value) for topic, messages in expected.items() for value in messages.values]


def test_what_the_state_looks_like_is_settled_before_the_first_claim_of_every_assignment(desk: Desk) -> None:
    layouts, claim = desk.store.layouts, desk.store.claim
    registered: list[Mapping[str, str]] = []

    async def noted_layouts(known: Mapping[str, str]) -> dict[str, str]:
        desk.did.append("layouts")
        registered.append(known)
        return await layouts(known)

    async def noted_claim(group: int, owner: str) -> Claim:
        desk.did.append("claim")
        return await claim(group, owner)

    desk.store.layouts = noted_layouts  # type: ignore[method-assign]
    desk.store.claim = noted_claim  # type: ignore[method-assign]

    async def scenario() -> None:
        await desk.assigned()
        await desk.assigned(generation=2)

    ran(scenario)
    assert [what for what in desk.did if what != "start"] == ["layouts", "claim"] * 2
    assert registered == [scoring_engine().layout_records()] * 2


def test_the_store_is_looked_at_during_each_assignment(desk: Desk) -> None:
    async def health() -> StoreHealth:
        desk.did.append("health")
        return StoreHealth(used_bytes=5, limit_bytes=9)

    desk.store.health = health  # type: ignore[method-assign]

    def watches() -> bool:
        return any(task.get_name() == "store watch" for task in asyncio.all_tasks())

    async def scenario() -> None:
        for generation in (1, 2):
            await desk.assigned(generation=generation)
            await done(desk, "health")
            desk.did.clear()
            await desk.handler.on_revoked(frozenset({CLICKS, ORDERS}), generation)
            assert not watches()
        assert (desk.count("store_memory"), desk.count("store_memory_limit")) == (5, 9)
        await desk.assigned(generation=3)
        await desk.handler.close()
        assert not watches()

    ran(scenario)


def test_a_store_that_was_emptied_ends_an_assignment_without_batches(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.assigned()
        desk.handler._watch._every_s = 0.001
        watch = asyncio.create_task(desk.handler.watch_assignment())
        await desk.handle(chunk("clicks", 0, 3))
        desk.store._groups[0].commit = 0
        with pytest.raises(StoreRolledBackError, match="lost writes"):
            await watch
        await desk.handler.close()

    ran(scenario)


def test_the_end_of_an_assignment_ends_its_watch(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.assigned()
        watch = asyncio.create_task(desk.handler.watch_assignment())
        await asyncio.sleep(0)
        await desk.handler.on_revoked(frozenset({CLICKS, ORDERS}), 1)
        await watch

    ran(scenario)


def test_answers_stay_in_the_outbox_until_the_next_step_of_their_group(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.assigned()
        await desk.handle(chunk("clicks", 0, 3))
        assert list(desk.store._groups[0].outbox) == [1]
        await desk.handle(chunk("clicks", 3, 5))
        assert list(desk.store._groups[0].outbox) == [2]
        await desk.handler.on_revoked(frozenset({CLICKS, ORDERS}), 1)
        assert list(desk.store._groups[0].outbox) == []

    ran(scenario)


def test_what_was_not_published_is_published_by_the_next_owner_byte_for_byte(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.assigned()
        desk.broken = BrokerUnavailableError
        with pytest.raises(BrokerUnavailableError):
            await desk.handle(chunk("clicks", 0, 3))
        [payload] = desk.store._groups[0].outbox.values()
        desk.broken = None
        assert await desk.assigned(generation=2) == {SEARCHES: 0, CLICKS: 3, ORDERS: 0}
        await desk.handler.wait_republished()
        assert len(desk.published) == 7
        expected = decode_outbox(payload).with_journal(1)
        assert desk.published == [(topic, value) for topic, messages in expected.items() for value in messages.values]
        assert await desk.outbox() == []
        assert desk.count("republished") == 7

    ran(scenario)


def test_what_the_store_has_applied_is_skipped_and_the_rest_of_a_chunk_is_not(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.assigned()
        await desk.handle(chunk("clicks", 0, 3))
        desk.published.clear()
        await desk.handle(chunk("clicks", 0, 3))
        assert desk.published == []
        await desk.handle(chunk("clicks", 1, 5))
        assert (
            sorted(topic for topic, _ in desk.published)
            == ["intent-labels"] * 2 + ["journal"] + ["recommendation-candidates"] * 2
        )
        assert desk.store._groups[0].fronts == {"clicks": 5}
        assert desk.count("skipped") == 5

    ran(scenario)


def test_a_batch_with_nothing_new_keeps_its_place_in_the_order(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.assigned()
        await desk.handle(chunk("clicks", 0, 3))
        desk.did.clear()
        await desk.handle(chunk("clicks", 0, 3))

    ran(scenario)
    assert desk.did == ["wait", "committed"]


def test_chunks_of_one_partition_are_one_range(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.assigned()
        await desk.handle(
            chunk("clicks", 0, 3), chunk("orders", 0, 1), chunk("clicks", 3, 6), Chunk("pre-clicks", 0, 6, 9, 1, [])
        )
        assert desk.store._groups[0].fronts == {"clicks": 9, "orders": 1}
        assert desk.store._groups[0].commit == 1

    ran(scenario)


def test_a_hole_between_two_chunks_ends_the_worker(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.assigned()
        with pytest.raises(ContractError, match="offsets are missing"):
            await desk.handle(chunk("clicks", 0, 3), chunk("clicks", 4, 6))

    ran(scenario)
    assert desk.published == []
    assert "commit" not in desk.did


def test_an_abandoned_batch_reads_nothing_and_writes_nothing(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.assigned()
        with pytest.raises(AbandonedError):
            await desk.handler.handle([chunk("clicks", 0, 3)], _Barrier(desk, abandoned=True))

    ran(scenario)
    assert desk.did == ["start", "wait"]


def test_a_partition_without_the_same_one_of_the_other_topics_is_refused_before_anything_is_written(desk: Desk) -> None:
    async def scenario() -> None:
        with pytest.raises(ContractError, match="assigned pre-clicks-0, but not pre-orders-0, pre-searches-0"):
            await desk.handler.on_assigned(frozenset({CLICKS}), 1)

    ran(scenario)
    assert desk.did == []


def test_a_topic_with_another_id_than_beside_the_fronts_is_refused(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.handler.check_topics({"pre-clicks": "first"})
        await desk.handler.check_topics({})
        await desk.handler.check_topics({"pre-clicks": "first", "pre-orders": "other"})
        with pytest.raises(ContractError, match=r"topic clicks was deleted .* \(id second at the broker, first in the store\)"):
            await desk.handler.check_topics({"pre-clicks": "second"})

    ran(scenario)


def test_a_fenced_group_is_dropped_and_the_others_are_still_published(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.assigned(groups=2)
        await desk.store.claim(0, "heir")
        here = chunk("clicks", 0, 2)
        there = Chunk("pre-clicks", 1, 0, 2, 1, [record_of(EVENTS[0], 1, 0, topic="clicks"), record_of(EVENTS[1], 1, 1)])
        with pytest.raises(FencedError, match="1 of 2 groups"):
            await desk.handle(here, there)

    ran(scenario)
    assert desk.did[-2:] == ["committed", "publish"]
    assert {b'"partition":1' in value for topic, value in desk.published if topic != "journal"} == {True}
    assert desk.store._groups[0].commit == 0
    assert desk.count("fenced") == 1


def test_a_store_that_went_back_in_time_ends_the_worker_before_anything_is_published(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.assigned()
        await desk.handle(chunk("clicks", 0, 3))
        desk.store._groups[0].fronts["clicks"] = 1
        desk.published.clear()
        with pytest.raises(StoreRolledBackError, match="front 1"):
            await desk.handle(chunk("clicks", 3, 5))

    ran(scenario)
    assert desk.published == []
    assert desk.did[-1] == "commit", "the next batch must not go on"


def test_an_idle_group_that_went_back_in_time_is_seen_by_a_batch_of_another(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.assigned(groups=2)
        await desk.handle(chunk("clicks", 0, 3))
        desk.store._groups[0].commit = 0
        desk.did.clear()
        there = Chunk("pre-clicks", 1, 0, 1, 1, [record_of(EVENTS[0], 1, 0, topic="clicks")])
        with pytest.raises(StoreRolledBackError, match=r"\{0: \(0, 1\)\}"):
            await desk.handle(there)

    ran(scenario)
    assert "commit" not in desk.did


async def done(desk: Desk, what: str) -> None:
    while what not in desk.did:  # noqa: ASYNC110  # the desk's log has no event
        await asyncio.sleep(0)


async def left_in_the_outbox(desk: Desk, commits: int) -> None:
    """Another worker has committed and published nothing."""
    await desk.assigned()
    desk.broken = BrokerUnavailableError
    for number in range(commits):
        with pytest.raises(BrokerUnavailableError):
            await desk.handle(chunk("clicks", 3 * number, 3 * number + 3))
    desk.broken = None
    desk.did.clear()


def test_a_claim_does_not_wait_for_the_broker_but_the_answers_of_its_batches_do(desk: Desk) -> None:
    async def scenario() -> None:
        await left_in_the_outbox(desk, 1)
        desk.held = asyncio.Event()
        await desk.assigned(generation=2)
        batch = asyncio.create_task(desk.handle(chunk("clicks", 3, 5)))
        await done(desk, "committed")
        assert desk.published == []
        desk.held.set()
        await batch
        journal = [value for topic, value in desk.published if topic == "journal"]
        assert [b'"commit":1,' in value for value in journal] == [True, False]

    ran(scenario)
    assert desk.did.count("publish") == 2


def test_what_is_published_again_is_marked_commit_by_commit(desk: Desk) -> None:
    async def scenario() -> None:
        await left_in_the_outbox(desk, 3)
        publish = desk.handler._publisher.publish

        async def once(groups: Iterable[tuple[int, Mapping[str, Messages]]]) -> dict[str, int]:
            if "publish" in desk.did:
                desk.broken = BrokerUnavailableError
            return await publish(groups)

        desk.handler._publisher.publish = once  # type: ignore[method-assign]
        await desk.assigned(generation=2)
        with pytest.raises(BrokerUnavailableError):
            await desk.handler.wait_republished()
        assert list(desk.store._groups[0].outbox) == [2, 3]

    ran(scenario)


def test_an_outbox_that_cannot_be_published_is_said_by_every_batch_and_to_who_waits(desk: Desk) -> None:
    async def scenario() -> None:
        await left_in_the_outbox(desk, 1)
        desk.broken = BrokerUnavailableError
        await desk.assigned(generation=2)
        for number in (1, 2):
            with pytest.raises(BrokerUnavailableError):
                await desk.handle(chunk("clicks", 3 * number, 3 * number + 3))
        with pytest.raises(BrokerUnavailableError):
            await desk.handler.wait_republished()
        await desk.handler.on_revoked(frozenset({CLICKS, ORDERS}), 2)
        assert await desk.outbox() == [1, 2, 3]

    ran(scenario)


def test_an_outbox_still_to_be_published_is_left_to_the_next_owner(desk: Desk) -> None:
    async def scenario() -> None:
        await left_in_the_outbox(desk, 1)
        desk.held = asyncio.Event()
        await desk.assigned(generation=2)
        batch = asyncio.create_task(desk.handle(chunk("clicks", 3, 5)))
        await done(desk, "committed")
        await desk.handler.on_revoked(frozenset({CLICKS, ORDERS}), 2)
        with pytest.raises(AbandonedError, match="next owner"):
            await batch
        assert await desk.outbox() == [1, 2]

    ran(scenario)
    assert desk.published == []


def test_a_step_that_was_applied_before_under_our_epoch_is_an_error_of_ours(desk: Desk) -> None:
    async def scenario() -> None:
        await desk.assigned()

        async def repeated(steps: Sequence[GroupStep]) -> list[CommitResult]:
            return [CommitResult(CommitStatus.REPEATED, 1, "fronts") for _ in steps]

        desk.store.commit = repeated  # type: ignore[method-assign]
        with pytest.raises(ContractError, match="Operator action"):
            await desk.handle(chunk("clicks", 0, 3))

    ran(scenario)


def test_closing_disconnects(desk: Desk) -> None:
    ran(desk.handler.close)
    assert desk.did == ["stop"]


@pytest.mark.parametrize(
    ("front", "position", "start"),
    [
        (None, LogPosition(0, 40, 90), 40),  # nothing applied, the beginning has expired
        (50, LogPosition(0, 40, 90), 50),  # an operator went back beyond the beginning
        (40, LogPosition(3, 40, 90), 40),
    ],
)
def test_a_log_that_has_lost_only_what_is_applied_is_read_from_where_work_is_left(
    desk: Desk, front: int | None, position: LogPosition, start: int
) -> None:
    async def scenario() -> None:
        if front is not None:
            desk.store._groups[0].fronts["clicks"] = front
        await desk.assigned()
        assert await desk.handler.on_out_of_range(CLICKS, position) == start

    ran(scenario)


@pytest.mark.parametrize(
    ("front", "position"),
    [
        (30, LogPosition(30, 40, 90)),  # ten records have expired unread
        (100, LogPosition(100, 0, 90)),  # the topic is another one
        (None, LogPosition(100, 0, 90)),
    ],
)
def test_a_log_that_has_lost_more_ends_the_worker(desk: Desk, front: int | None, position: LogPosition) -> None:
    async def scenario() -> None:
        if front is not None:
            desk.store._groups[0].fronts["clicks"] = front
        await desk.assigned()
        with pytest.raises(ContractError, match=rf"below {front or 0}, .*\[{position.beginning}, 90\).*Operator action"):
            await desk.handler.on_out_of_range(CLICKS, position)

    ran(scenario)
