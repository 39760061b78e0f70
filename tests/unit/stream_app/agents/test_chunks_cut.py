"""Ranges of chunks join without a gap, whatever the log holds: records, markers, holes, or nothing but markers."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from hypothesis import given
from hypothesis import strategies as st

from stream_app.agents.consumer_thread import ChunkThread
from stream_app.agents.ports import Chunk
from stream_app.agents.ports import TopicPartition as Place

if TYPE_CHECKING:
    from collections.abc import Callable

TP = TopicPartition("clicks", 3)


def make_thread(position: int, chunk_events: int) -> ChunkThread:
    thread = ChunkThread.__new__(ChunkThread)  # only the cutting is under test: no loop, no broker
    thread._token, thread._positions = 7, {TP: position}
    thread.consumer = SimpleNamespace(options=SimpleNamespace(chunk_events=chunk_events))  # type: ignore[assignment]
    return thread


def make_record(offset: int, size: int = 300) -> Any:
    return SimpleNamespace(offset=offset, serialized_key_size=-1, serialized_value_size=size)


def cut(thread: ChunkThread, offsets: list[int], stop: int, size: int = 300) -> list[Chunk]:
    state = SimpleNamespace(has_valid_position=True, position=stop, highwater=stop + 5)
    assignment = SimpleNamespace(tps=frozenset({TP}), state_value=lambda _tp: state)
    kafka: Any = SimpleNamespace(_subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)))
    return thread._cut_chunks(kafka, 7, {TP: [make_record(offset, size) for offset in offsets]} if offsets else {})


def ranges(chunks: list[Chunk]) -> list[tuple[int, int, int]]:
    return [(chunk.start, chunk.end, len(chunk)) for chunk in chunks]


def test_records_are_cut_into_chunks_of_the_limit() -> None:
    chunks = cut(make_thread(10, 2), [10, 11, 12, 13, 14], 15)
    assert ranges(chunks) == [(10, 12, 2), (12, 14, 2), (14, 15, 1)]
    assert [chunk.more for chunk in chunks] == [True, True, False]
    assert {(chunk.generation, chunk.highwater) for chunk in chunks} == {(7, 20)}


def test_large_records_make_small_chunks_of_at_least_one() -> None:
    mb = 1_000_000
    chunks = cut(make_thread(10, 256), list(range(10, 20)), 20, mb)
    assert ranges(chunks) == [(offset, offset + 1, 1) for offset in range(10, 20)]
    assert [chunk.weight for chunk in chunks] == [mb // 4096] * 10
    chunks = cut(make_thread(10, 256), list(range(10, 20)), 20, mb // 4)
    assert [len(chunk) for chunk in chunks] == [4, 4, 2]
    assert all(chunk.size_bytes == len(chunk) * (mb // 4 - 1) for chunk in chunks)
    assert [len(chunk) for chunk in cut(make_thread(10, 256), [10, 11], 12, 9 * mb)] == [1, 1]


def test_events_of_the_usual_size_weigh_one_each() -> None:
    (chunk,) = cut(make_thread(0, 256), list(range(256)), 256, 4096)
    assert (len(chunk), chunk.weight) == (256, 256)


def test_holes_and_markers_belong_to_a_range() -> None:
    #   10 .. .. 13 14 .. 16 M        a hole, an aborted record, a marker at the end
    assert ranges(cut(make_thread(10, 2), [10, 13, 14, 16], 18)) == [(10, 14, 2), (14, 18, 2)]


def test_markers_alone_are_an_empty_chunk() -> None:
    assert ranges(cut(make_thread(10, 2), [], 12)) == [(10, 12, 0)]


def test_nothing_new_is_no_chunk() -> None:
    assert cut(make_thread(10, 2), [], 10) == []


def test_a_record_below_the_position_is_refused() -> None:
    with pytest.raises(IllegalStateError, match="offset 9 came, 10 is next"):
        cut(make_thread(10, 2), [9, 10], 11)


@given(
    gaps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12),
    takes=st.lists(st.integers(1, 4), max_size=12),
    chunk_events=st.integers(1, 5),
)
def test_over_many_fetches_ranges_join_and_every_record_comes_once(
    gaps: list[tuple[int, int]], takes: list[int], chunk_events: int
) -> None:
    offsets: list[int] = []
    end = 0
    for before, after in gaps:
        offsets.append(end + before)
        end = offsets[-1] + 1 + after
    thread, seen, edge, taken = make_thread(0, chunk_events), list[int](), 0, 0
    for take in [*takes, len(offsets)]:
        part = offsets[taken : taken + take]
        taken += len(part)
        # aiokafka's position: behind the last record taken, or at the end when all are taken.
        for chunk in cut(thread, part, end if taken == len(offsets) else part[-1] + 1):
            assert chunk.start == edge
            assert all(chunk.start <= record.offset < chunk.end for record in chunk.records)
            edge = chunk.end
            seen += [record.offset for record in chunk.records]
    assert (seen, edge) == (offsets, end)


def make_kafka(fetched_records: Callable[..., Any], stop: int) -> Any:
    state = SimpleNamespace(has_valid_position=True, position=stop, highwater=stop)
    assignment = SimpleNamespace(tps=frozenset({TP}), state_value=lambda _tp: state)
    subscriptions = SimpleNamespace(fetch_context=nullcontext)
    return SimpleNamespace(
        _closed=False,
        _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)),
        _fetcher=SimpleNamespace(_closed=False, _subscriptions=subscriptions, fetched_records=fetched_records),
    )


def test_a_fetch_hands_over_what_is_there() -> None:
    thread = make_thread(10, 5)

    async def fetched_records(*_: Any, **__: Any) -> dict[TopicPartition, list[Any]]:
        return {TP: [make_record(10)]}

    thread._consumer = make_kafka(fetched_records, 11)
    assert ranges(asyncio.run(thread.fetch(frozenset({Place(*TP)}), 100, 0))) == [(10, 11, 1)]


def test_a_fetch_in_flight_ends_with_its_assignment_and_takes_nothing_of_the_next() -> None:
    # It would wait for the next assignment inside aiokafka, take its first records and give them to nobody.
    thread = make_thread(10, 5)
    taken: list[str] = []

    async def scenario() -> list[Chunk]:
        next_assignment = asyncio.Event()

        async def fetched_records(*_: Any, **__: Any) -> dict[TopicPartition, list[Any]]:
            await next_assignment.wait()
            taken.append("records of the next assignment")
            return {TP: [make_record(4)]}

        thread._consumer = make_kafka(fetched_records, 5)
        fetch = asyncio.create_task(thread.fetch(frozenset({Place(*TP)}), 100, 1_000))
        await asyncio.sleep(0)
        await thread._stop_fetching()
        thread._token, thread._positions[TP] = 8, 4  # assigned and sought
        next_assignment.set()
        return await fetch

    assert asyncio.run(scenario()) == []
    assert taken == []
    assert thread._positions[TP] == 4
