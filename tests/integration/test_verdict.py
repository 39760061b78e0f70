"""The verdict of `make e2e` on real services: a right run is good, and each damage to topics or keys is seen.

No worker runs here: sources, answers, journal and state are written by the test, as a right worker would.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import redis
from confluent_kafka import Producer

from devservices.state import ServicesState
from stream_app.events import SOURCE_TOPICS, Event
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine
from stream_app.privacy import Pseudonymizer
from stream_app.store.port import GroupStep, StateWrite
from stream_app.store.redis_store import RedisStore
from tests.scoring import topic_of
from verification.harness.answer_audit import CANDIDATES, LABELS, Place
from verification.harness.namespace import ID_KEY, PARTITIONS, RunNamespace
from verification.harness.output_topics import OutputTopicReader
from verification.harness.raw_files import RawFiles, card_events, stand_in, taobao_events
from verification.verify import AuditVerdict, verify

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

ROWS = {"taobao": 120, "cards": 80}


@dataclass
class Finished:
    """A run that has ended well, in its own space."""

    space: RunNamespace
    files: RawFiles
    producer: Producer
    store: redis.Redis
    events: dict[Place, Event] = field(default_factory=dict)

    def append(self, topic: str, partition: int, value: bytes, key: bytes = b"") -> None:
        self.producer.produce(self.space.topic(topic), value, key=key or None, partition=partition)
        assert self.producer.flush(20) == 0

    def verdict(self) -> AuditVerdict:
        return verify(self.space, self.files, ROWS)

    def state_key(self, kind: str) -> bytes:
        return bytes(next(iter(self.store.scan_iter(match=f"{self.space.name}:{{*:{kind}:*"))))


@pytest.fixture
def finished(real_services: ServicesState, tmp_path: Path) -> Iterator[Finished]:
    space = RunNamespace.fresh("verdict-", real_services, tmp_path)
    space.create_topics()
    producer = Producer({"bootstrap.servers": real_services.kafka.bootstrap, "partitioner": "murmur2_random"})
    with redis.Redis.from_url(real_services.redis.url) as store:
        run = Finished(
            space, stand_in(tmp_path / "data", **{f"{name.rstrip('s')}_rows": n for name, n in ROWS.items()}), producer, store
        )
        write_sources(run)
        write_answers(run)
        asyncio.run(write_state(run))
        yield run
    space.remove()


def write_sources(run: Finished) -> None:
    raw = [*taobao_events(run.files.taobao, ROWS["taobao"]), *card_events(run.files.cards, ROWS["cards"])]
    by_topic_user: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in raw:
        by_topic_user[topic_of(event), event.user].append(event)
        run.producer.produce(run.space.topic(topic_of(event)), b"{}", key=event.user.encode())
    assert run.producer.flush(20) == 0
    ends = run.space.meter().ends([run.space.topic(name) for name in SOURCE_TOPICS])
    with OutputTopicReader(run.space.services.kafka.bootstrap) as reader:
        for record in reader.read_to(ends):
            topic = record.topic.removeprefix(run.space.topic_prefix)
            run.events[topic, record.partition, record.offset] = by_topic_user[topic, record.key.decode()].pop(0)


def write_answers(run: Finished) -> None:
    for place in run.events:
        for topic in (LABELS, CANDIDATES):
            run.producer.produce(run.space.topic(topic), answer(place, topic), partition=place[1])
    for group in range(PARTITIONS):
        line = {"group": group, "commit": 1, "ranges": ranges(run, group)}
        run.producer.produce(run.space.topic("journal"), json.dumps(line).encode(), partition=group)
    assert run.producer.flush(20) == 0


def answer(place: Place, topic: str, *, text: str = "") -> bytes:
    name, partition, offset = place
    source = {"topic": name, "partition": partition, "offset": offset}
    body = {"answer_id": f"{name}-{partition}-{offset}", "source": source, "text": text}
    return json.dumps(body | ({"fraud_alert": False} if topic == LABELS else {})).encode()


def ranges(run: Finished, group: int) -> dict[str, tuple[int, int]]:
    ends: dict[str, int] = defaultdict(int)
    for topic, partition, offset in run.events:
        if partition == group:
            ends[topic] = max(ends[topic], offset + 1)
    return {topic: (0, end) for topic, end in ends.items()}


async def write_state(run: Finished) -> None:
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=86_400_000)
    shared = frozenset(kind.name for kind in engine.kinds if kind.shared)
    places = sorted(run.events, key=lambda place: (run.events[place].event_time_ms, place))
    columns = engine.columns([run.events[p] for p in places], [p[1] for p in places], Pseudonymizer(ID_KEY.encode()))
    rows = engine.rows(columns)
    own = {kind: engine.unpack(kind, [None] * len(rows[kind])) for kind in rows}
    engine.fold(columns, rows, own, {})
    url = run.space.services.redis.url
    store = RedisStore(url, prefix=run.space.name, groups=PARTITIONS, shared_kinds=shared)
    steps = []
    for group in range(PARTITIONS):
        epoch = (await store.claim(group, "test")).epoch
        writes = []
        for kind in engine.kinds:
            mine = np.flatnonzero(rows[kind.name].groups == group)
            keys = [rows[kind.name].keys[i] for i in mine.tolist()]
            writes.append(
                StateWrite(kind.name, kind.shared, keys, engine.pack(kind.name, own[kind.name], rows=mine), kind.ttl_ms)
            )
        steps.append(GroupStep(group, epoch, ranges(run, group), b"", writes))
    await store.commit(steps)
    await store.close()


def test_a_right_run_is_good(finished: Finished) -> None:
    verdict = finished.verdict()
    assert verdict.examples() == []
    figures = verdict.figures()
    assert verdict.good
    assert figures["events"] == sum(ROWS.values())
    assert figures["answers"] == {"fraud-alerts": 0, LABELS: figures["events"], CANDIDATES: figures["events"]}
    assert figures["state_keys_compared"] > 80
    assert figures["sequences_compared"] > 30


def test_every_damage_to_topics_is_seen(finished: Finished) -> None:
    place = next(iter(finished.events))
    finished.append(LABELS, place[1], answer(place, LABELS))
    assert finished.verdict().good  # the same bytes again
    finished.append(LABELS, place[1], answer(place, LABELS, text="other"))
    figures = finished.verdict().figures()
    assert (figures["ok"], figures["duplicates"], figures["duplicates_differing"]) == (False, 1, 1)
    finished.append("clicks", 0, b"{}", key=b"nobody")
    figures = finished.verdict().figures()
    assert figures["missing"] == 2
    assert figures["import_faults"] == 1
    assert figures["journal_faults"] == 1
    assert figures["store_faults"] == 1  # its front is behind the topic's end


def test_every_damage_to_keys_is_seen(finished: Finished) -> None:
    user, device, prefix = finished.state_key("user"), finished.state_key("device"), finished.space.name
    blob = finished.store.get(user)
    assert isinstance(blob, bytes)
    finished.store.delete(user)
    assert finished.verdict().state.differences == 1
    finished.store.set(user, finished.store.get(finished.state_key("user")) or b"")
    assert finished.verdict().state.differences == 1  # another user's state
    finished.store.set(user, blob)
    finished.store.set(f"{prefix}:{{g0}}:user:{'ab' * 16}", blob)
    assert finished.verdict().state.differences == 1
    finished.store.delete(f"{prefix}:{{g0}}:user:{'ab' * 16}")
    finished.store.delete(f"{prefix}:holders:device:{device.rpartition(b':')[2].decode()}")
    verdict = finished.verdict()
    assert verdict.state.differences == 0
    assert verdict.store_faults
    finished.store.hset(f"{prefix}:{{g1}}:outbox", "7", b"left")
    assert len(finished.verdict().store_faults) == len(verdict.store_faults) + 1
