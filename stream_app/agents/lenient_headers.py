"""Record batches whose header names need not be UTF-8.

Kafka lets a producer write any bytes as a header name. aiokafka decodes them while it reads a fetched batch, raises, and would
raise for ever at the same offset. Such a batch is read a second time here, and the odd bytes become `\\xff`, which is valid in
JSON. aiokafka's own compiled reader reads all other batches.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH_AT: Final = 8  # of a batch: base offset (8 bytes), length of what follows (4)
_LOG_OVERHEAD: Final = 12


class RawRecord(NamedTuple):
    """A record with the fields that aiokafka's fetcher reads."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    checksum: None = None


class LenientBatch:
    """aiokafka's batch, with its bytes for a second reading."""

    __slots__ = ("_batch", "_raw")

    def __init__(self, batch: Any, raw: memoryview) -> None:  # noqa: ANN401  # one of two compiled classes without a common base
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._batch, name)

    def __next__(self) -> Any:  # noqa: ANN401  # the fetcher reads the marker of a control batch this way
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._batch
        except UnicodeDecodeError:
            # From the start: the fetcher skips offsets below the expected one, as in any batch.
            yield from _read(self._raw)


class LenientRecords:
    """Replaces aiokafka's `MemoryRecords`: the batches of one partition in a fetch response."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._raw = memoryview(data or b"")
        self._at = 0
        self.size_in_bytes = self._records.size_in_bytes
        self.has_next = self._records.has_next

    def next_batch(self) -> LenientBatch | None:
        """Return the next batch, None after the last complete one.

        Raises:
            CorruptRecordException: The batch is shorter than any batch can be.
        """
        batch = self._records.next_batch()
        if batch is None:
            return None
        start = self._at
        (length,) = struct.unpack_from(">i", self._raw, start + _LENGTH_AT)
        self._at = start + _LOG_OVERHEAD + length
        return LenientBatch(batch, self._raw[start : self._at])


def tolerate_odd_headers() -> None:
    """Make aiokafka's fetcher read all batches of this process through `LenientRecords`."""
    fetcher.MemoryRecords = LenientRecords  # type: ignore[attr-defined,unused-ignore]  # the name exists only there


def _read(raw: memoryview) -> Iterator[RawRecord]:
    batch = _DefaultRecordBatchPy(raw)
    batch._maybe_uncompress()
    buffer, at = batch._buffer, batch._pos
    for _ in range(batch._num_records):
        record, at = _read_record(batch, buffer, at)
        yield record


def _read_record(batch: _DefaultRecordBatchPy, buffer: bytearray, at: int) -> tuple[RawRecord, int]:
    length, at = decode_varint(buffer, at)
    end = at + length
    _, at = decode_varint(buffer, at)  # attributes: none are defined
    delay_ms, at = decode_varint(buffer, at)
    offset_delta, at = decode_varint(buffer, at)
    key, at = _read_bytes(buffer, at)
    value, at = _read_bytes(buffer, at)
    count, at = decode_varint(buffer, at)
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, at = _read_bytes(buffer, at)
        content, at = _read_bytes(buffer, at)
        headers.append(((name or b"").decode("utf-8", "backslashreplace"), content))
    timestamp = batch.max_timestamp if batch.timestamp_type == batch.LOG_APPEND_TIME else batch.first_timestamp + delay_ms
    return RawRecord(batch.base_offset + offset_delta, timestamp, batch.timestamp_type, key, value, headers), end


def _read_bytes(buffer: bytearray, at: int) -> tuple[bytes | None, int]:
    size, at = decode_varint(buffer, at)
    return (None, at) if size < 0 else (bytes(buffer[at : at + size]), at + size)
