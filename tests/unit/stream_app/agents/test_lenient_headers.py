"""Header names that are not UTF-8 do not stop fetching; aiokafka's own reader reads all other batches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from stream_app.agents.lenient_headers import LenientRecords

GOOD: list[tuple[str, bytes | None]] = [("trace", b"\x00\xff"), ("ü", None), ("", b"")]
STAND_IN = "~~~~odd~~~~"  # replaced in the bytes: no client of ours can write such a name


def batch(base: int, headers: list[list[tuple[str, bytes | None]]], codec: int = 0) -> bytes:
    # aiokafka's writer keeps names as text, so the odd bytes come in as characters of one byte each.
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1_000_000)
    for number, pairs in enumerate(headers):
        value = None if number == 3 else b"value %d" % number
        assert builder.append(number, 1_000 + number, b"key" if number else None, value, pairs) is not None
    made = bytearray(builder.build())
    made[0:8] = base.to_bytes(8, "big")
    return bytes(made)


def odd(raw: bytes) -> bytes:
    assert STAND_IN.encode() in raw
    return raw.replace(STAND_IN.encode(), b"\xff\xfe\x00name\xc3\x28\xed\xa0"[: len(STAND_IN)])


def unpack(records: Any, start: int) -> list[Any]:
    place = TopicPartition("clicks", 0)
    return list(PartitionRecords(place, records, [], start, None, None, False, READ_COMMITTED))


ODD_NAME = "\\xff\\xfe\0name\\xc3(\\xed\\xa0"


def test_what_aiokafka_can_read_is_read_the_same() -> None:
    raw = batch(5, [GOOD] * 4) + batch(9, [[]] * 3, codec=1) + batch(20, [GOOD])
    assert unpack(LenientRecords(raw), 6) == unpack(MemoryRecords(raw), 6)
    assert len(unpack(LenientRecords(raw), 6)) == 7


def test_aiokafka_alone_stops_at_an_odd_name() -> None:
    raw = odd(batch(5, [[(STAND_IN, b"1")]]))
    with pytest.raises(UnicodeDecodeError):
        unpack(MemoryRecords(raw), 5)


@pytest.mark.parametrize("at", range(4))
def test_an_odd_name_becomes_readable_and_every_record_comes_once(at: int) -> None:
    headers: list[list[tuple[str, bytes | None]]] = [list(GOOD) for _ in range(4)]
    headers[at].insert(1, (STAND_IN, b"odd"))
    before, behind = batch(0, [GOOD] * 2), batch(9, [GOOD] * 2)
    plain = unpack(MemoryRecords(before + batch(5, headers) + behind), 1)
    read = unpack(LenientRecords(before + odd(batch(5, headers)) + behind), 1)
    assert [record.offset for record in read] == [1, 5, 6, 7, 8, 9, 10]
    for mine, theirs in zip(read, plain, strict=True):
        expected = tuple((ODD_NAME if name == STAND_IN else name, value) for name, value in theirs.headers)
        assert (mine.headers, mine.key, mine.value) == (expected, theirs.key, theirs.value)
        assert (mine.timestamp, mine.timestamp_type) == (theirs.timestamp, theirs.timestamp_type)
        assert (mine.serialized_key_size, mine.serialized_value_size) == (
            theirs.serialized_key_size,
            theirs.serialized_value_size,
        )
        assert json.loads(json.dumps(mine.headers[0][0]).encode("utf-8")) == mine.headers[0][0]


def test_reading_may_begin_within_such_a_batch() -> None:
    raw = odd(batch(5, [GOOD, GOOD, [(STAND_IN, b"odd")], GOOD]))
    assert [record.offset for record in unpack(LenientRecords(raw), 6)] == [6, 7, 8]


def test_a_batch_cut_off_at_the_end_of_a_response_is_left_out() -> None:
    raw = batch(5, [GOOD]) + batch(6, [GOOD])
    records = LenientRecords(raw[:-3])
    assert records.size_in_bytes() == len(raw) - 3
    assert [record.offset for record in unpack(records, 5)] == [5]
    assert LenientRecords(b"").next_batch() is None
