"""Sorts more records than memory holds: sorted runs go to a temporary folder and are merged from there.

What fits into memory never touches the disk. The order is that of the records themselves, which is total, so the result is the
same however the records came and wherever the runs were cut.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from stream_app.errors import InputFileError
from stream_app.logs.log_records import LogRecord

__all__ = ["held_bytes", "sorted_records", "windowed_records"]

_RUN_BYTES: Final = 96 << 20  # held at once; with their objects about three times that
_OVERHEAD: Final = 400  # of one record's objects
_HEADER_OVERHEAD: Final = 200  # of one header's
_FRAME_RECORDS: Final = 512  # read at once of each run
_FRAME_BYTES: Final = 256 << 10  # of huge records, fewer
_FAN_IN: Final = 128  # runs merged into one: those of two levels are fewer files than a process may have open anywhere

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[LogRecord]).decode


def held_bytes(record: LogRecord) -> int:
    """Return about how many bytes a record's key, value and headers take."""
    size = len(record.key or b"") + len(record.value or b"")
    return size + sum(_HEADER_OVERHEAD + len(name) + len(value or b"") for name, value in record.headers)


def sorted_records(records: Iterable[LogRecord], *, run_bytes: int = _RUN_BYTES) -> Iterator[LogRecord]:
    """Yield all records in canonical order.

    Args:
        records: In any order.
        run_bytes: How much may be in memory before it goes to disk.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-sort-") as folder:
        runs = _Runs(Path(folder))
        held: list[LogRecord] = []
        size = 0
        for record in records:
            held.append(record)
            size += _OVERHEAD + held_bytes(record)
            if size >= run_bytes:
                runs.add(held)
                held, size = [], 0
        held.sort()
        yield from heapq.merge(*map(_frames, runs.paths()), held)


def windowed_records(
    records: Iterable[LogRecord], window_ms: int, refuse: Callable[[LogRecord, int], None]
) -> Iterator[LogRecord]:
    """Yield records in canonical order as they come, none more than `window_ms` out of order.

    Args:
        records: Nearly in order of event time.
        window_ms: A record waits until one came that is so much newer.
        refuse: Told of each record that comes when a later one has been given out already, and by how many ms; it is left out.
    """
    waiting: list[LogRecord] = []
    newest_ms = before_ms = 0
    given: LogRecord | None = None
    for record in records:
        if given is not None and record < given:
            refuse(record, given.time_ms - record.time_ms)
            continue
        heapq.heappush(waiting, record)
        # Two in a row: a single time from the far future would shut out all that comes after it.
        newest_ms, before_ms = max(newest_ms, min(before_ms, record.time_ms)), record.time_ms
        while waiting and waiting[0].time_ms < newest_ms - window_ms:
            given = heapq.heappop(waiting)
            yield given
    while waiting:
        yield heapq.heappop(waiting)


class _Runs:
    """Sorted runs on disk. So many of one level become one of the next, so that few files are open at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._levels: list[list[Path]] = []
        self._made = 0

    def add(self, records: list[LogRecord]) -> None:
        """Write a run; sorts `records`."""
        self._keep(0, _spilled(records, self._fresh()))

    def paths(self) -> list[Path]:
        """Name the files."""
        return [path for level in self._levels for path in level]

    def _keep(self, level: int, path: Path) -> None:
        if level == len(self._levels):
            self._levels.append([])
        runs = self._levels[level]
        runs.append(path)
        if len(runs) < _FAN_IN:
            return
        merged = _written(heapq.merge(*map(_frames, runs)), self._fresh())
        for run in runs:
            run.unlink()
        runs.clear()
        self._keep(level + 1, merged)

    def _fresh(self) -> Path:
        self._made += 1
        return self._folder / f"run-{self._made}"


def _spilled(records: list[LogRecord], path: Path) -> Path:
    records.sort()
    return _written(records, path)


def _written(records: Iterable[LogRecord], path: Path) -> Path:
    try:
        with path.open("wb") as file:
            for batch in _cut(records):
                frame = _encode(batch)
                file.write(len(frame).to_bytes(4, "little"))
                file.write(frame)
    except OSError as err:
        raise InputFileError(
            f"cannot write {path} ({err.strerror}): sorting needs about the log's own size there; name a folder with more room "
            "in TMPDIR, or give --sort-window for a log that is nearly in order"
        ) from err
    return path


def _cut(records: Iterable[LogRecord]) -> Iterator[list[LogRecord]]:
    batch: list[LogRecord] = []
    size = 0
    for record in records:
        batch.append(record)
        size += held_bytes(record)
        if len(batch) == _FRAME_RECORDS or size >= _FRAME_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _frames(path: Path) -> Iterator[LogRecord]:
    with path.open("rb") as file:
        while head := file.read(4):
            yield from _decode(file.read(int.from_bytes(head, "little")))
