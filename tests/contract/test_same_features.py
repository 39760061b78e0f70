"""The same log through memory, Redis and Redis Cluster, in batches of 1, 7 and 256: the same features, bit for bit.

With several partition groups an event does not see what other groups did to a shared entity within its batch (ADR 0005), so there
the stores are compared at the same cut; with one group nothing depends on the cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from stream_app.clock import SettableClock
from stream_app.store.memory import MemoryStore
from stream_app.store.port import Store
from tests.scoring import Record, make_events, record_of, scoring_pipeline, topic_of
from tests.scoring_run import GROUPS, SHARED, USERS, NotingRanker, Run, log_of

SIZES = (1, 7, 256)
# A day and a bit: windows fill and empty, sessions end, tiles of every window begin.
EVENTS = make_events(600, users=USERS, devices=["d-1", "d-2", "d-3", ""], seed=5, span_ms=100_000_000)
SEVERAL = log_of(EVENTS)


def in_one_group() -> list[Record]:
    ends: dict[str, int] = {}
    records = []
    for event in sorted(EVENTS, key=lambda event: event.event_time_ms):
        offset = ends[topic_of(event)] = ends.get(topic_of(event), -1) + 1
        records.append(record_of(event, 0, offset))
    return records


ONE = in_one_group()


async def features_of(store: Store, log: Sequence[Record], size: int) -> dict[str, Sequence[bytes]]:
    """Every tensor of every event, as bytes, by event id."""
    ranker = NotingRanker()
    run = Run(scoring_pipeline(store, SettableClock(77), ranker=ranker), cast(Any, store), ranker)
    for at in range(0, len(log), size):
        await run.batch(log[at : at + size])
    run.pipeline.model_thread.shutdown()
    assert len(run.features) == len(log)
    return run.features


@pytest.mark.parametrize("size", SIZES)
async def test_every_store_gives_the_features_of_memory(runner: Any, new_store: Callable[..., Store], size: int) -> None:
    log = SEVERAL if size > 1 else SEVERAL[:150]  # a batch of one costs as much as one of many
    expected = await features_of(MemoryStore(GROUPS, SHARED), log, size)
    assert await features_of(new_store(groups=GROUPS, shared_kinds=SHARED), log, size) == expected


async def test_with_one_group_the_cut_into_batches_changes_no_bit(runner: Any, new_store: Callable[..., Store]) -> None:
    log = ONE[:150]
    by_size = [await features_of(MemoryStore(GROUPS, SHARED), log, size) for size in SIZES]
    assert by_size[0] == by_size[1] == by_size[2]
    assert await features_of(new_store(groups=GROUPS, shared_kinds=SHARED), log, 7) == by_size[0]
