"""Canonical replay gives the same bytes for every batch size, and what an event sees is all that was earlier, whoever sent it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from stream_app.config import FeaturesSettings, ModelSettings, Settings
from stream_app.events import Event
from stream_app.logs.ingest.sink import JsonlSink
from stream_app.logs.log_source import chunks_of, open_log
from stream_app.replay.canonical import CanonicalReplay, ReplayBatch
from stream_app.store.memory import MemoryStore
from stream_app.store.port import Store
from tests.scoring import make_events, scoring_engine, topic_of

SETTINGS = Settings(model=ModelSettings(engine="none"), features=FeaturesSettings())


def write_log(path: Path, events: Sequence[Event]) -> Path:
    with JsonlSink(path) as sink:
        for event in events:
            sink.send(topic_of(event), event.user.encode(), msgspec.json.encode(event), event.event_time_ms + 7)
        sink.flush()
    return path


def replayed(log: Path, size: int, store: Store | None = None) -> Iterator[ReplayBatch]:
    with CanonicalReplay(SETTINGS, scoring_engine(), store=store) as replay:
        yield from replay.batches(chunks_of(open_log([log]), size))


def messages(log: Path, size: int, store: Store | None = None) -> dict[str, list[tuple[bytes | None, bytes]]]:
    by_topic: dict[str, list[tuple[bytes | None, bytes]]] = {}
    for batch in replayed(log, size, store):
        for topic, topic_messages in batch.messages.items():
            by_topic.setdefault(topic, []).extend(zip(topic_messages.keys, topic_messages.values, strict=True))
    return by_topic


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 events of few users and devices with much at one time, in disorder, 60 of them twice, and two that are no events."""
    events = make_events(500, users=["u-1", "u-2", "u-3"], devices=["d-1", "d-2"], span_ms=900_000)
    events = [msgspec.structs.replace(event, event_time_ms=event.event_time_ms // 60_000 * 60_000) for event in events]
    draw = random.Random(5)
    events += draw.sample(events, 60)
    draw.shuffle(events)
    path = write_log(tmp_path_factory.mktemp("log") / "log.jsonl", events)
    with path.open("ab") as file:
        file.write(b'{"topic":"clicks","key":"u-1","value":"{}","time_ms":1728000000000}\n')
        file.write(b'{"topic":"orders","key":"u-1","value":"no json","time_ms":1727999990000}\n')
    return path


@pytest.fixture(scope="module")
def single(log: Path) -> dict[str, list[tuple[bytes | None, bytes]]]:
    """Messages of the log replayed event by event."""
    return messages(log, 1)


@pytest.mark.parametrize("size", [7, 256, 4_096])
def test_any_batch_size_gives_the_bytes_that_single_events_give(
    log: Path, single: dict[str, list[tuple[bytes | None, bytes]]], size: int
) -> None:
    assert {topic: len(topic_messages) for topic, topic_messages in single.items()}["intent-labels"] == 560
    assert len(single["dead-letters"]) == 2
    assert sum(b"duplicate_of" in value for _, value in single["intent-labels"]) == 60
    assert messages(log, size) == single


@pytest.mark.parametrize("size", [3, 50])
def test_state_in_memory_gives_the_bytes_that_a_store_gives(log: Path, size: int) -> None:
    shared = frozenset(kind.name for kind in scoring_engine().kinds if kind.shared)
    assert messages(log, size, MemoryStore(1, shared)) == messages(log, 300)


def test_an_answer_is_decided_when_its_record_came(log: Path) -> None:
    for _, value in messages(log, 64)["intent-labels"]:
        answer = msgspec.json.decode(value)
        if "duplicate_of" not in answer:
            assert answer["scored_time_ms"] == answer["ingest_time_ms"]
