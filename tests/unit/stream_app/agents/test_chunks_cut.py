"""Ranges of chunks join without a gap, whatever the log holds: records, markers, holes, or nothing but markers."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from hypothesis import given
from hypothesis import strategies as st

from stream_app.agents.chunks import Chunk
from stream_app.agents.consumer_thread import ChunkThread
from stream_app.agents.ports import TopicPartition as Place

TP = TopicPartition("clicks", 3)


def make_thread(position: int, chunk_events: int) -> ChunkThread:
    thread = ChunkThread.__new__(ChunkThread)  # only the cutting is under test: no loop, no broker
    thread._positions = {TP: position}
    thread.consumer = SimpleNamespace(options=SimpleNamespace(chunk_events=chunk_events))  # type: ignore[assignment]
    return thread


def cut(thread: ChunkThread, offsets: list[int], stop: int) -> list[Chunk]:
    state = SimpleNamespace(has_valid_position=True, position=stop, highwater=stop + 5)
    assignment = SimpleNamespace(tps=frozenset({TP}), state_value=lambda _tp: state)
    kafka: Any = SimpleNamespace(_subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)))
    return thread._cut(kafka, 7, {TP: [SimpleNamespace(offset=offset) for offset in offsets]} if offsets else {})


def ranges(chunks: list[Chunk]) -> list[tuple[int, int, int]]:
    return [(chunk.start, chunk.end, len(chunk)) for chunk in chunks]


def test_records_are_cut_into_chunks_of_the_limit() -> None:
    chunks = cut(make_thread(10, 2), [10, 11, 12, 13, 14], 15)
    assert ranges(chunks) == [(10, 12, 2), (12, 14, 2), (14, 15, 1)]
    assert [chunk.more for chunk in chunks] == [True, True, False]
    assert {(chunk.generation, chunk.highwater) for chunk in chunks} == {(7, 20)}


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


@pytest.mark.parametrize("meanwhile", ["nothing", "a new assignment"])
def test_what_was_fetched_before_a_seek_is_not_handed_over_after_it(meanwhile: str) -> None:
    thread = make_thread(10, 5)
    thread._token = 1
    state = SimpleNamespace(has_valid_position=True, position=11, highwater=11)
    assignment = SimpleNamespace(tps=frozenset({TP}), state_value=lambda _tp: state)

    async def fetched_records(*_: Any, **__: Any) -> dict[TopicPartition, list[Any]]:
        if meanwhile == "a new assignment":
            thread._token = 2
            thread._positions[TP] = 4
        return {TP: [SimpleNamespace(offset=10)]}

    kafka: Any = SimpleNamespace(
        _closed=False,
        _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)),
        _fetcher=SimpleNamespace(
            _closed=False, _subscriptions=SimpleNamespace(fetch_context=nullcontext), fetched_records=fetched_records
        ),
    )
    thread._consumer = kafka
    chunks = asyncio.run(thread.fetch(frozenset({Place(*TP)}), 100, 0))
    assert ranges(chunks) == ([(10, 11, 1)] if meanwhile == "nothing" else [])
    assert thread._positions[TP] == (11 if meanwhile == "nothing" else 4)
