"""Compressed batches: every codec of Kafka is read, and a batch that is not readable is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from devservices import real
from stream_app.errors import UnreadableBatchError
from stream_app.monitor.tail import records
from tests.integration.transport_harness import SqliteSubject, produce, settle

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.mark.case("compressed producers")
def test_every_codec_of_kafka_is_read_by_worker_and_tail(subject: SqliteSubject) -> None:
    places = [place for codec in CODECS for place in produce(subject.bootstrap, subject.topics, 300, codec=codec)]
    read = [records(subject.bootstrap, topic, beginning=True, follow=False) for topic in subject.topics]
    assert sum(len(list(of_topic)) for of_topic in read) == len(places) == 1_500
    subject.start()
    settle(subject, places)


@pytest.mark.case("damaged batch of records")
@pytest.mark.parametrize("codec", CODECS)
def test_a_damaged_batch_ends_the_worker_and_tail_with_its_place(
    subject_of_own_broker: SqliteSubject, own_broker: tuple[Path, str], codec: str
) -> None:
    subject, topic = subject_of_own_broker, subject_of_own_broker.topics[1]
    produce(subject.bootstrap, [topic], 40, partitions=1)
    produce(subject.bootstrap, [topic], 400, partitions=1, codec=codec)
    real.stop_kafka(own_broker[0])
    damage(own_broker[0] / ".services" / "kafka" / "data" / f"{topic}-0" / f"{0:020d}.log", 40)
    subject.bootstrap = real.start_kafka(own_broker[0]).kafka.bootstrap
    place = f"{topic}-0, offset 40: the batch of records cannot be read"
    worker = subject.start()
    assert worker.wait(60) == 1
    assert place in subject.log(0).read_text()
    with pytest.raises(UnreadableBatchError, match=place):
        list(records(subject.bootstrap, topic, beginning=True, follow=False))


def damage(log: Path, offset: int) -> None:
    """Turn bits behind the header of the batch that begins at `offset`."""
    content = bytearray(log.read_bytes())
    at, end = 0, batch_end(content, 0)
    while int.from_bytes(content[at : at + 8], "big") < offset:
        at, end = end, batch_end(content, end)
    for place in range(at + 61, end):
        content[place] ^= 0xA5
    log.write_bytes(content)


def batch_end(content: bytearray, start: int) -> int:
    return start + 12 + int.from_bytes(content[start + 8 : start + 12], "big")
