"""The life of an event: how a log is cut into batches changes nothing.

Runs the worker's own pipeline, without a model, over the store in memory.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import pytest

from stream_app.batch import OffsetSpan
from stream_app.store.port import CommitStatus
from tests.scoring import Record, make_events, scoring_engine, with_own_things
from tests.scoring_run import USERS, Run, log_of, new_run


@pytest.fixture
def run() -> Iterator[Run]:
    made = new_run()
    yield made
    made.pipeline.model_thread.shutdown()


def played(records: Sequence[Record], sizes: Sequence[int]) -> Run:
    run, at = new_run(), 0
    for size in sizes:
        asyncio.run(run.batch(records[at : at + size]))
        at += size
    assert at >= len(records)
    run.pipeline.model_thread.shutdown()
    return run


def test_single_events_and_batches_of_any_size_give_the_same_features_and_state() -> None:
    # No two users share a thing: what another group has done meanwhile is seen at the next batch only, which is no part of this
    # promise.
    records = log_of([with_own_things(event) for event in make_events(200, users=USERS, devices=["d"])])
    single = played(records, [1] * 200)
    draw = random.Random(4)
    for sizes in ([200], [64, 64, 64, 64], [draw.randrange(1, 30) for _ in range(60)]):
        batched = played(records, sizes)
        assert batched.features == single.features
        assert batched.state() == single.state()
    assert len(single.features) == 200


def test_a_batch_is_folded_in_order_of_time_whatever_came_first() -> None:
    # Topics and partitions are fetched as they come: orders may stand before the clicks that led to them.
    records = log_of(make_events(100, users=["u-0", "u-3"], devices=["d"]))
    mixed = [record for at in range(0, 100, 25) for record in sorted(records[at : at + 25], key=lambda r: (r.topic, -r.offset))]
    assert mixed != records
    ordered, unordered = played(records, [25] * 4), played(mixed, [25] * 4)
    assert unordered.features == ordered.features
    assert unordered.state() == ordered.state()


def test_one_group_shares_its_devices_and_still_does_not_depend_on_the_batches() -> None:
    records = log_of(make_events(200, users=["u-0", "u-3", "u-6"], devices=["d-1", "d-2"]))
    single, batched = played(records, [1] * 200), played(records, [37] * 6)
    assert batched.features == single.features
    assert batched.state() == single.state()


def test_a_shared_device_is_seen_over_all_groups(run: Run) -> None:
    events = [msgspec.structs.replace(e, device="d", ip="") for e in make_events(30, users=USERS, devices=["d"])]
    records = log_of(events)
    last = records[-1]
    asyncio.run(run.batch(records[:-1]))
    asyncio.run(run.batch([last]))
    column = scoring_engine().feature_names.index("device_events_10m")
    before = [e for e in events if last.timestamp - 5 - 600_000 < e.event_time_ms]
    assert run.ranker.seen[-1]["dense"][0, column] == len(before) - 1


def test_a_batch_of_markers_alone_still_moves_the_front(run: Run) -> None:
    async def moved() -> Mapping[str, int]:
        epoch = (await run.store.claim(1, "w")).epoch
        scored = await run.pipeline.score(run.pipeline.prepare([OffsetSpan(1, epoch, "clicks", 0, 5)], []))
        assert [result.status for result in await run.store.commit(scored.steps)] == [CommitStatus.APPLIED]
        return (await run.store.claim(1, "w")).fronts

    assert asyncio.run(moved()) == {"clicks": 5}
    assert run.ranker.seen == [], "no model call for nothing"


def test_the_model_runs_in_its_own_thread(run: Run) -> None:
    asyncio.run(run.batch(log_of(make_events(3, users=USERS, devices=["d"]))))
    [thread] = run.ranker.threads
    assert thread != threading.get_ident()
    assert run.pipeline.model_thread.submit(threading.get_ident).result() == thread
