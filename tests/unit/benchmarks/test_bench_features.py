"""The feature benchmark runs from end to end, on made-up events, and has every promised figure."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from benchmarks.bench_features import main
from benchmarks.features.feature_logs import batches, group_of, shop_log
from benchmarks.features.feature_paths import FeaturePath, Laps, ResidentPath
from benchmarks.features.idiomatic_features import FEATURES, keep_and_read
from stream_app.events import Click, Event, Order, OrderLine
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine
from stream_app.privacy import Pseudonymizer
from stream_app.store.memory import MemoryStore


def test_a_shop_is_the_same_each_time_and_has_every_kind_of_event() -> None:
    one, two = (list(shop_log(500).events()) for _ in range(2))
    assert one == two
    assert len({type(event) for event in one}) == 3


def test_users_are_spread_over_all_groups() -> None:
    assert {group_of(f"u{n}", 8) for n in range(200)} == set(range(8))


def test_rows_that_stay_in_memory_and_blobs_of_a_store_give_the_same_features() -> None:
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=86_400_000)
    store = MemoryStore(1, frozenset(kind.name for kind in CATALOGUE.kinds if kind.shared))
    resident, way = ResidentPath(engine, Laps()), FeaturePath(engine, store)
    asyncio.run(way.claim([0]))
    for batch in batches(shop_log(1_500).events(), 100):
        columns = engine.columns(batch, [0] * len(batch), Pseudonymizer(b"k"))
        resident.reserve([columns])
        one, two = resident.take(columns), asyncio.run(way.take(columns))
        assert one.dense.tobytes() == two.dense.tobytes()
        assert one.sequence_ids.tobytes() == two.sequence_ids.tobytes()


@pytest.mark.redis
def test_a_quick_run_tells_every_figure(
    redis_url: str, redis_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.bench_features._PREFIX", redis_prefix)
    done = CliRunner().invoke(main, ["--quick", "--redis-url", redis_url, "--data", str(tmp_path)])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.splitlines()[-1])
    rates = ("memory_events_per_s", "redis_events_per_s", "idiomatic_events_per_s", "memory_store_events_per_s")
    assert all(figures[name] > 0 for name in rates)
    assert {"rows", "read", "unpack", "fold", "pack", "commit", "columns"} == figures["memory_store_us"].keys()
    assert figures["memory_us"].keys() == {"number", "fold"}
    assert 0 < figures["bytes_p50"] <= figures["bytes_p99"] <= figures["bytes"]["user"]["max"]
    assert figures["bytes"].keys() == {kind.name for kind in CATALOGUE.kinds}
    assert figures["data"] == "simulated"
    assert figures["features"] == len(CATALOGUE.features)
    assert {"catalogue", "commit", "machine", "date", "events"} <= figures.keys()
    with redis.Redis.from_url(redis_url) as client:
        assert not list(client.scan_iter(match=f"{redis_prefix}*"))  # nothing is left behind


@pytest.mark.redis
def test_features_by_the_book_count_what_they_say(redis_url: str, redis_prefix: str) -> None:
    head = {"user": "u", "device": "d"}
    events: list[Event] = [
        Click(event_id="a", event_time_ms=1_000_000, action="view", item="i", category="c", **head),  # type: ignore[arg-type]
        Order(event_id="b", event_time_ms=1_060_000, lines=[OrderLine(item="i")], amount=2.5, currency="EUR", **head),  # type: ignore[arg-type]
    ]
    with redis.Redis.from_url(redis_url) as client:
        keep_and_read(client, redis_prefix, events)
        third = Click(event_id="c", event_time_ms=1_120_000, action="view", item="i", category="c", **head)  # type: ignore[arg-type]
        replies = keep_and_read(client, redis_prefix, [third])
    assert replies[:3] == [2, 2, 2]  # events of ten minutes, an hour, a day
    assert [b"250"] in [[value for value in reply if value] for reply in replies if isinstance(reply, list)]
    assert b"1060000" in replies  # when the user was last seen
    assert len(FEATURES) >= len(CATALOGUE.features) // 10
