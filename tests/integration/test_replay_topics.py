"""Topics of a real broker are a log like any other: by offsets or by time, and as files of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from stream_app.config import KafkaSettings, ModelSettings, Settings
from stream_app.errors import ConfigError
from stream_app.events import ANSWER_TOPICS, SIDE_TOPICS, SOURCE_TOPICS
from stream_app.logs.event_table_writer import sort_log
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_options import LogOptions
from stream_app.logs.log_source import open_log
from stream_app.logs.recording import record_topics
from stream_app.replay.replay_job import Callbacks, ReplayOptions, replay_log
from tests.scoring import make_events, topic_of

EVENTS = make_events(120, users=[f"u-{n}" for n in range(7)], devices=["d-1", "d-2"])
PARTITIONS = 2


def produce(bootstrap: str, prefix: str) -> None:
    client = AdminClient({"bootstrap.servers": bootstrap})
    names = [prefix + name for name in (*SOURCE_TOPICS, *ANSWER_TOPICS, *SIDE_TOPICS)]
    for made in client.create_topics([NewTopic(name, PARTITIONS, 1) for name in names]).values():
        made.result()
    producer = Producer({"bootstrap.servers": bootstrap})
    for number, event in enumerate(EVENTS):
        at_ms = event.event_time_ms + 1_000
        topic, key = prefix + topic_of(event), event.user.encode()
        producer.produce(topic, msgspec.json.encode(event), key, number % PARTITIONS, timestamp=at_ms)
    producer.flush()


def replayed(settings: Settings, out: Path, **options: object) -> Sequence[str]:
    asked = ReplayOptions(out=out, **options)  # type: ignore[arg-type]  # the fields are the test's to choose
    replay_log(settings, asked, LogIssues(strict=True), Callbacks())
    return [msgspec.json.decode(line)["event_id"] for line in (out / "intent-labels.jsonl").read_bytes().splitlines()]


def test_topics_are_replayed_by_offsets_and_by_time_and_as_recorded(
    kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    produce(kafka_bootstrap, topic_prefix)
    kafka = KafkaSettings(bootstrap=kafka_bootstrap, topic_prefix=topic_prefix, partitions=PARTITIONS)
    settings = Settings(model=ModelSettings(engine="none"), kafka=kafka)
    whole = replayed(settings, tmp_path / "whole", from_topics=True)
    times = {event.event_id: event.event_time_ms for event in EVENTS}
    assert set(whole) == times.keys()
    assert [times[one] for one in whole] == sorted(times.values())

    counts = record_topics(kafka_bootstrap, topic_prefix, tmp_path / "recorded")
    assert sum(counts.values()) == len(EVENTS)
    assert replayed(settings, tmp_path / "again", paths=(str(tmp_path / "recorded" / "log"),)) == whole
    for name in ("intent-labels.jsonl", "recommendation-candidates.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    table = tmp_path / "topics.parquet"
    sort_log(settings, LogOptions(from_topics=True), table, LogIssues(strict=True), lambda _count, _note: None)
    assert list(open_log([table]).records()) == list(open_log([tmp_path / "recorded" / "log"]).records())
    assert replayed(settings, tmp_path / "of-table", paths=(str(table),)) == whole

    since = sorted(times.values())[60]
    late = replayed(settings, tmp_path / "late", from_topics=True, since_ms=since + 1_000)
    assert set(late) >= {one for one in whole if times[one] >= since}
    assert len(late) < len(whole)
    few = replayed(settings, tmp_path / "few", from_topics=True, offsets=("clicks-0=1:4", "orders-1=0:2"))
    assert len(few) == 5
    with pytest.raises(ConfigError, match="TOPIC-PARTITION=FROM:TO"):
        replayed(settings, tmp_path / "wrong", from_topics=True, offsets=("clicks=1",))
