"""A snapshot of live state begins a replay that goes on as live would have; a replay beside it leaves live state alone."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
import redis

from stream_app.batch import OffsetSpan
from stream_app.config import KafkaSettings, ModelSettings, RedisSettings, Settings
from stream_app.events import Event
from stream_app.logs.log_issues import LogIssues
from stream_app.replay.replay_job import Callbacks, ReplayOptions, replay_log
from stream_app.replay.snapshot import take_snapshot
from stream_app.wiring import build_store, shared_kinds
from tests.scoring import make_events, record_of, scoring_engine, scoring_pipeline, topic_of
from tests.unit.stream_app.replay.test_canonical import write_log

GROUPS = 3
MADE = make_events(240, users=[f"u-{n}" for n in range(6)], devices=["d-1", "d-2"], span_ms=900_000)
EVENTS = sorted(MADE, key=lambda event: event.event_time_ms)


def settings_of(url: str, prefix: str) -> Settings:
    return Settings(
        model=ModelSettings(engine="none"), kafka=KafkaSettings(partitions=GROUPS), redis=RedisSettings(url=url, prefix=prefix)
    )


async def applied_live(settings: Settings, events: list[Event]) -> None:
    """Score events one by one, as a worker that is never behind."""
    store = build_store(settings, shared_kinds(scoring_engine()))
    pipeline = scoring_pipeline(store, settings=settings)
    try:
        await pipeline.learn_layouts()
        epochs = [(await store.claim(group, "w")).epoch for group in range(GROUPS)]
        offsets: dict[tuple[str, int], int] = {}
        for event in events:
            topic, group = topic_of(event), sum(event.user.encode()) % GROUPS
            at = offsets[topic, group] = offsets.get((topic, group), -1) + 1
            span = OffsetSpan(group, epochs[group], topic, at, at + 1)
            scored = await pipeline.score(pipeline.prepare([span], [(topic, record_of(event, group, at))]))
            await store.commit(scored.steps)
    finally:
        pipeline.model_thread.shutdown()
        await store.close()


def digest(url: str, prefix: str) -> str:
    with redis.Redis.from_url(url) as client:
        keys = sorted(client.scan_iter(match=f"{prefix}:*", count=1_000))
        return sha256(repr([(key, client.dump(key), client.ttl(key) > 0) for key in keys]).encode()).hexdigest()


def replayed(settings: Settings, log: Path, out: Path, **options: object) -> dict[str, bytes]:
    replay_log(settings, ReplayOptions(paths=(str(log),), out=out, **options), LogIssues(strict=True), Callbacks())  # type: ignore[arg-type]
    return {path.name: path.read_bytes() for path in out.glob("*.jsonl")}


def test_a_replay_from_a_snapshot_goes_on_where_live_stood(redis_url: str, redis_prefix: str, tmp_path: Path) -> None:
    settings = settings_of(redis_url, redis_prefix)
    asyncio.run(applied_live(settings, EVENTS[:160]))
    taken = take_snapshot(settings, tmp_path / "live.state")
    assert {group["commit"] for group in taken["groups"].values()} != {0}
    whole = replayed(settings, write_log(tmp_path / "all.jsonl", EVENTS), tmp_path / "whole", batch=7)
    rest = write_log(tmp_path / "rest.jsonl", EVENTS[160:])
    gone_on = replayed(settings, rest, tmp_path / "rest", batch=50, snapshot=tmp_path / "live.state")
    for topic in ("intent-labels.jsonl", "fraud-alerts.jsonl"):
        ours, theirs = gone_on[topic].splitlines(), whole[topic].splitlines()
        assert [said_of(line) for line in ours] == [said_of(line) for line in theirs if said_of(line)[0] in late_ids()]


def late_ids() -> set[str]:
    return {event.event_id for event in EVENTS[160:]}


def said_of(line: bytes) -> tuple[str, object]:
    """An answer without where its event stood: the two logs have other line numbers."""
    answer = msgspec.json.decode(line)
    for name in ("answer_id", "source"):
        del answer[name]
    return answer["event_id"], answer


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_a_replay_beside_it_leaves_live_state_untouched(store: str, redis_url: str, redis_prefix: str, tmp_path: Path) -> None:
    settings = settings_of(redis_url, f"{redis_prefix}live")
    asyncio.run(applied_live(settings, EVENTS[:60]))
    before = digest(redis_url, f"{redis_prefix}live")
    log = write_log(tmp_path / "log.jsonl", EVENTS)
    prefix = f"{redis_prefix}replay" if store == "redis" else None
    answers = replayed(settings, log, tmp_path / "out", prefix=prefix)
    assert digest(redis_url, f"{redis_prefix}live") == before
    assert answers == replayed(settings, log, tmp_path / "again")
