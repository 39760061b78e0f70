"""External merge sort: sorted runs go to a temporary folder and are merged from there.

Records that fit into memory never touch the disk. The canonical order is total, so the result does not depend on the order of
arrival or on the size of the runs.
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

_RUN_BYTES: Final = 96 << 20  # in memory at once; Python's objects take about three times as much
_OVERHEAD: Final = 400  # bytes of one record's objects
_HEADER_OVERHEAD: Final = 200  # bytes of one header's objects
_FRAME_RECORDS: Final = 512  # read at once from each run
_FRAME_BYTES: Final = 256 << 10  # fewer records per frame where they are huge
_FAN_IN: Final = 128  # runs merged into one; two levels stay below any system's limit of open files

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[LogRecord]).decode


def held_bytes(record: LogRecord) -> int:
    """Return the approximate size of a record's key, value and headers in bytes."""
    size = len(record.key or b"") + len(record.value or b"")
    return size + sum(_HEADER_OVERHEAD + len(name) + len(value or b"") for name, value in record.headers)


def sorted_records(records: Iterable[LogRecord], *, run_bytes: int = _RUN_BYTES) -> Iterator[LogRecord]:
    """Yield all records in canonical order.

    Args:
        records: In any order.
        run_bytes: Size of the records in memory from which a run goes to disk.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-sort-") as folder:
        runs = _Runs(Path(folder))
        run: list[LogRecord] = []
        size = 0
        for record in records:
            run.append(record)
            size += _OVERHEAD + held_bytes(record)
            if size >= run_bytes:
                runs.add(run)
                run, size = [], 0
        run.sort()
        yield from heapq.merge(*map(_frames, runs.paths()), run)


def windowed_records(
    records: Iterable[LogRecord], window_ms: int, refuse: Callable[[LogRecord, int], None]
) -> Iterator[LogRecord]:
    """Sort records that are at most `window_ms` out of order, as they come.

    Args:
        records: Records nearly in order of event time.
        window_ms: A record waits until another one arrives that is newer by this much.
        refuse: Receives each record that arrives after a later one was yielded, with its lateness in ms; it is left out.
    """
    waiting: list[LogRecord] = []
    newest_ms = before_ms = 0
    last: LogRecord | None = None
    for record in records:
        if last is not None and record < last:
            refuse(record, last.time_ms - record.time_ms)
            continue
        heapq.heappush(waiting, record)
        # The smaller of two consecutive times: a single time in the far future must not refuse all later records.
        newest_ms, before_ms = max(newest_ms, min(before_ms, record.time_ms)), record.time_ms
        while waiting and waiting[0].time_ms < newest_ms - window_ms:
            last = heapq.heappop(waiting)
            yield last
    while waiting:
        yield heapq.heappop(waiting)


class _Runs:
    """Sorted runs on disk. `_FAN_IN` runs of one level are merged into one of the next, so that few files are open at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._levels: list[list[Path]] = []
        self._created = 0

    def add(self, records: list[LogRecord]) -> None:
        """Sort `records` in place and write them as a run."""
        self._add_path(0, _spilled(records, self._fresh()))

    def paths(self) -> list[Path]:
        """Return the files of all runs."""
        return [path for level in self._levels for path in level]

    def _add_path(self, level: int, path: Path) -> None:
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
        self._add_path(level + 1, merged)

    def _fresh(self) -> Path:
        self._created += 1
        return self._folder / f"run-{self._created}"


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
