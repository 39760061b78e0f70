"""A worker on real services, a snapshot while it works, topics that lost their beginning: the rest is replayed to the bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from stream_app.config import RedisSettings
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.recording import record_topics
from stream_app.replay.compare import compare
from stream_app.replay.replay_job import Callbacks, ReplayOptions, replay_recording
from stream_app.replay.snapshot import take_snapshot
from tests.integration.live_shop import LiveShop
from tests.integration.transport_harness import until
from tests.scoring import make_events, scoring_engine

EVENTS = sorted(
    make_events(900, users=[f"u-{n}" for n in range(30)], devices=["d-1", "d-2"], span_ms=900_000),
    key=lambda event: event.event_time_ms,
)


def forget_the_beginning(shop: LiveShop, taken: dict[str, object]) -> None:
    """Delete what the topics hold of the time before the snapshot, as their retention does."""
    groups = taken["groups"]
    assert isinstance(groups, dict)
    ends = [
        TopicPartition(shop.settings.topic(topic), int(group), offset)
        for group, stood in groups.items()
        for topic, offset in {**stood["fronts"], "journal": stood["commit"]}.items()
    ]
    client = AdminClient({"bootstrap.servers": shop.settings.kafka.bootstrap})
    for deleted in client.delete_records(ends).values():
        deleted.result(30)


def test_a_journal_that_lost_its_beginning_is_replayed_from_a_snapshot_to_the_bit(
    kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> None:
    shop = LiveShop(kafka_bootstrap, RedisSettings(url=redis_url, prefix=redis_prefix), topic_prefix, tmp_path)
    shop.settings = replace(
        shop.settings,
        features=replace(shop.settings.features, record=True),
        worker=replace(shop.settings.worker, batch_events=40),
    )
    try:
        shop.start()
        shop.answered(EVENTS[:300])
        with ThreadPoolExecutor(1) as beside:
            taking = beside.submit(take_snapshot, shop.settings, tmp_path / "live.state")
            ids = shop.send(EVENTS[300:])
        ids += shop.send(EVENTS[200:350:5])  # come again; first answers of some are older than the snapshot
        until(lambda: shop.hears(ids), "the events are answered")
        shop.end()
        forget_the_beginning(shop, taking.result())
        record_topics(kafka_bootstrap, topic_prefix, tmp_path / "recorded")
        asked = ReplayOptions(out=tmp_path / "out", snapshot=tmp_path / "live.state")
        line = replay_recording(shop.settings, tmp_path / "recorded", (), asked, LogIssues(strict=True), Callbacks())
        found = compare(tmp_path / "recorded", tmp_path / "out", scoring_engine().feature_names)
        assert found.same, found.line()
        assert found.features
        assert found.events == line["events"] >= 200
        assert found.events + found.before == 930
        assert line["duplicates"] >= 10
    finally:
        shop.stop()
