"""An acknowledgement counts for the current assignment only, and at the front only."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import pytest
from faust.types import TP, ConsumerMessage

from stream_app.agents.ports import Chunk
from stream_app.agents.transport import ChunkConsumer
from stream_app.errors import ContractError

PLACE = TP("clicks", 0)


class BareConsumer(ChunkConsumer):
    """Only the fronts: no loop, no thread, no broker."""

    def __init__(self, front: int, committed: int | None) -> None:
        self.generation = 2
        self._fronts = {PLACE: front}
        self._acked = defaultdict(list)
        self._unacked_messages = WeakSet()
        self._committed_offset = {PLACE: committed}
        self._waiting_events = 0
        self.log: Any = logging.getLogger("test")
        self.failures: list[BaseException] = []
        self.sent: list[dict[TP, int]] = []
        self.accepts = True
        self.app: Any = SimpleNamespace(monitor=SimpleNamespace(on_tp_commit=lambda _offsets: None))

    def add_future(self, coro: Any) -> Any:
        asyncio.run(coro)

    async def fail(self, what: str, error: BaseException) -> None:
        self.failures.append(error)

    async def _commit(self, offsets: Any) -> bool:
        self.sent.append(dict(offsets))
        return self.accepts

    def commit_now(self) -> list[dict[TP, int]]:
        asyncio.run(self._commit_tps(list(self._filter_tps_with_pending_acks()), start_new_transaction=False))
        return self.sent

    async def _handle_attached(self, commit_offsets: Any) -> None:
        """Nothing is ever attached."""


def chunk(start: int, end: int, generation: int = 2) -> Chunk:
    return Chunk("clicks", 0, start, end, generation, [])


def test_chunks_in_order_move_the_front_and_what_is_committed() -> None:
    consumer = BareConsumer(front=10, committed=10)
    assert consumer.acknowledge(chunk(10, 15))
    assert consumer.acknowledge(chunk(15, 16))
    assert consumer.commit_now() == [{PLACE: 16}]


def test_a_second_acknowledgement_of_one_haul_does_nothing() -> None:
    consumer = BareConsumer(front=10, committed=10)
    fetch: Any = [chunk(10, 15)]
    once = ConsumerMessage("clicks", 0, 14, 0.0, 0, [], None, fetch, None, 0, 0, PLACE)
    assert consumer.ack(once)
    assert not consumer.ack(once)


def test_one_of_an_older_assignment_does_not_count() -> None:
    consumer = BareConsumer(front=10, committed=10)
    assert not consumer.acknowledge(chunk(10, 15, generation=1))
    assert consumer.commit_now() == []


def test_one_beyond_the_front_ends_the_worker_and_commits_nothing() -> None:
    consumer = BareConsumer(front=10, committed=10)
    assert not consumer.acknowledge(chunk(12, 15))
    [failure] = consumer.failures
    assert isinstance(failure, ContractError)
    assert "offset 10" in str(failure)
    assert consumer.commit_now() == []


def test_what_a_rewound_start_reads_again_does_not_move_kafkas_offset_back() -> None:
    # The store's front was behind Kafka's offset: reading starts below it.
    consumer = BareConsumer(front=10, committed=20)
    consumer.acknowledge(chunk(10, 15))
    assert consumer.commit_now() == []
    consumer.acknowledge(chunk(15, 25))
    assert consumer.commit_now() == [{PLACE: 25}]


@pytest.mark.parametrize("accepts", [True, False])
def test_a_refused_commit_is_said_again(*, accepts: bool) -> None:
    consumer = BareConsumer(front=10, committed=None)
    consumer.accepts = accepts
    consumer.acknowledge(chunk(10, 15))
    consumer.commit_now()
    consumer.commit_now()
    assert consumer.sent == [{PLACE: 15}] * (1 if accepts else 2)
