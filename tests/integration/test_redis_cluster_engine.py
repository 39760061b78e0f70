"""The worker's own pipeline over a Redis Cluster that loses a primary, against the same log over memory: every bit is the same.

Both runs cut the log into the same batches, so commit numbers in the state are the same too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from devservices import cluster
from stream_app.clock import SettableClock
from stream_app.errors import StoreRolledBackError
from stream_app.features.columns.event_columns import EntityRows
from stream_app.store.redis_cluster import RedisClusterStore
from tests.integration.cluster_faults import after_failover, cut_off, lose, opened, primary, repair, slot_of_group
from tests.scoring import Record, make_events, scoring_pipeline
from tests.scoring_run import GROUPS, SHARED, USERS, NotingRanker, Run, log_of, new_run, spans_of

pytestmark = [pytest.mark.redis, pytest.mark.slow]

BATCH = 15
LOG = log_of(make_events(450, users=USERS, devices=["d-1", "d-2", "d-3"]))
BATCHES = [LOG[at : at + BATCH] for at in range(0, len(LOG), BATCH)]


@pytest.fixture
def whole(own_cluster: Path) -> Path:
    """The cluster of this module, with all six nodes at work."""
    repair(own_cluster)
    return own_cluster


@pytest.fixture(scope="module")
def in_memory() -> Run:
    """The whole log over the store in memory."""
    run = new_run()
    for batch in BATCHES:
        asyncio.run(run.batch(batch))
    run.pipeline.model_thread.shutdown()
    return run


def run_over(store: RedisClusterStore) -> Run:
    ranker = NotingRanker()
    return Run(scoring_pipeline(store, SettableClock(77), ranker=ranker), cast(Any, store), ranker)


async def check_state(store: RedisClusterStore, expected: Run) -> None:
    """Assert that the cluster holds the very blobs of the run in memory, at its commit numbers."""
    for (group, kind, key), blob in expected.store.state().items():
        rows = {kind: EntityRows(np.array([group], np.int32), [key], np.zeros(1, np.int32))}
        assert list((await store.read(rows)).own[kind]) == [blob]
    assert (await store.read({})).reads == (await expected.store.read({})).reads


def test_features_and_state_are_those_of_memory_when_a_primary_dies_under_way(whole: Path, in_memory: Run) -> None:
    async def play() -> None:
        # Each batch claims; a claim gives up early otherwise.
        async with opened(whole, groups=GROUPS, shared=SHARED, wait_replicas=1, claim_patience_ms=60_000) as store:
            run = run_over(store)
            for batch in BATCHES[:5]:
                await run.batch(batch)
            old = primary(whole, store, 0)
            cluster.kill(whole, old.number)
            failover = asyncio.create_task(asyncio.to_thread(after_failover, whole, slot_of_group(store, 0), old))
            for batch in BATCHES[5:]:
                await run.batch(batch)
            await failover
            run.pipeline.model_thread.shutdown()
            assert run.features == in_memory.features
            await check_state(store, in_memory)

    asyncio.run(play())


def test_what_a_failover_lost_is_noticed_before_it_is_scored_and_done_again_to_the_bit(whole: Path, in_memory: Run) -> None:
    async def play() -> None:
        async with opened(whole, groups=GROUPS, shared=SHARED) as store:
            run = run_over(store)
            for batch in BATCHES[:5]:
                await run.batch(batch)
            old = primary(whole, store, 0)
            lost = [group for group in range(GROUPS) if primary(whole, store, group).number == old.number]
            behind = cut_off(whole, old)
            for batch in BATCHES[5:8]:
                await run.batch(batch)
            confirmed = dict((await store.read({})).reads)
            await asyncio.to_thread(lose, whole, slot_of_group(store, 0), old, behind)

            prepared = run.pipeline.prepare(spans_of(BATCHES[8], dict.fromkeys(range(GROUPS), "")), named(BATCHES[8]))
            with pytest.raises(StoreRolledBackError, match="fewer commits than it has confirmed"):
                await run.pipeline.score(prepared, confirmed)
            fronts = {group: dict((await store.claim(group, "w")).fronts) for group in lost}
            expected = {group: Counter(r.topic for batch in BATCHES[:5] for r in batch if r.partition == group) for group in lost}
            assert fronts == expected, "front and state have stepped back together"
            for batch in BATCHES[5:8]:
                await run.batch([record for record in batch if record.partition in lost])
            for batch in BATCHES[8:]:
                await run.batch(batch)
            run.pipeline.model_thread.shutdown()
            await check_state(store, in_memory)

    asyncio.run(play())


def named(records: Sequence[Record]) -> list[tuple[str, Any]]:
    return [(record.topic, record) for record in records]
