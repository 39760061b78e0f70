"""Read a log in canonical order: files merged by event time, in bounded memory.

Without a window the whole log is sorted, on disk where it exceeds memory, whatever its disorder. With a window nothing is written
to disk; a record that comes later than the window allows is left out and counted as an issue.
"""

from __future__ import annotations

import glob
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final, Protocol

from stream_app.codec.decode import ANY_SKEW_MS, Decoder, decode_label
from stream_app.errors import ConfigError, InvalidEventError
from stream_app.events import Event, Label
from stream_app.logs.ingest.mapping import LogMapping
from stream_app.logs.log_files import LogFile, log_files
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_records import LABELS, LogRecord, at_broker
from stream_app.logs.sorting import sorted_records, windowed_records

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Consecutive records in canonical order, and the labels among them."""

    records: list[LogRecord]
    labels: list[Label]


class LogSource(Protocol):
    """A log for a replay: its records in canonical order, and the place of each for messages."""

    problems: LogIssues
    total: int | None  # number of records with labels, once known

    def records(self) -> Iterator[LogRecord]:
        """Yield all records and labels in canonical order; each call yields the same."""
        ...

    def where(self, record: LogRecord) -> tuple[str, str]:
        """Return the file (or topic) and the line (or offset) of a record."""
        ...

    def identity(self) -> list[str]:
        """Identify the content of the log; a resumed replay requires the same."""
        ...


class ReplayLog:
    """Files of one log; see `open_log`."""

    def __init__(
        self,
        files: Sequence[Path],
        mapping: LogMapping | None,
        problems: LogIssues,
        window_ms: int | None,
        progress: Callable[[str], None],
    ) -> None:
        self.problems = problems
        self._window_ms = window_ms
        self._mapping = mapping
        self._progress = progress
        self._files = log_files(files, mapping, problems, self._report)
        self._of_number = [file for file in self._files for _ in file.sources]
        self.total: int | None = None  # number of records, once all are read; of a table from the start
        self._count = 0

    @property
    def sources(self) -> list[tuple[str, str]]:
        """Name and unit ("line" or "row") of each file, indexed by the file number in a place."""
        return [source for file in self._files for source in file.sources]

    @property
    def table(self) -> Path | None:
        """The event table, if the log is exactly one; its records are in canonical order."""
        return self._files[0].path if len(self._files) == 1 and self._files[0].is_table else None

    def records(self) -> Iterator[LogRecord]:
        """Yield all records in canonical order."""
        self._count = 0
        if self.table is not None:
            self.total = self._files[0].total
            return self._counted(self._files[0].records())  # already in order
        if self._window_ms is None:
            return sorted_records(self._counted(chain.from_iterable(file.records() for file in self._files)))
        return self._counted(heapq.merge(*(self._windowed(file, self._window_ms) for file in self._files)))

    def where(self, record: LogRecord) -> tuple[str, str]:
        """Return the file and the line, or the partition and the offset."""
        if at_broker(record):
            return f"{record.topic}-{record.partition}", f"offset {record.offset}"
        file = self._of_number[record.partition]
        return str(file.path), file.line_of(record)

    def identity(self) -> list[str]:
        """Return every file with its size and modification time, the mapping and the window."""
        stats = [(file.path, file.path.stat()) for file in self._files]
        files = [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
        return [*files, self._mapping.text if self._mapping is not None else "", str(self._window_ms)]

    def _report(self, line: str) -> None:
        if self._window_ms is None and self.table is None:  # otherwise the replay itself reports progress
            self._progress(line)

    def _counted(self, records: Iterable[LogRecord]) -> Iterator[LogRecord]:
        for record in records:
            self._count += 1
            yield record
        self.total = self._count

    def _windowed(self, file: LogFile, window_ms: int) -> Iterator[LogRecord]:
        def refuse(record: LogRecord, late_by_ms: int) -> None:
            late_s = late_by_ms / 1_000
            self.problems.add(
                str(file.path), f"{file.line_of(record)} ({late_s:,.0f} s too late)",
                f"left out: older than what the sort window of {window_ms / 1_000:,.0f} s let pass",
            )  # fmt: skip

        return windowed_records(file.records(), window_ms, refuse)


def open_log(
    paths: Sequence[str | Path],
    mapping: LogMapping | None = None,
    *,
    problems: LogIssues | None = None,
    window_ms: int | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> ReplayLog:
    """Open files as one log.

    Args:
        paths: Files, folders (all files in them) and patterns (`logs/2026-*.jsonl.gz`, `**` for folders below).
        mapping: Turns rows into events; None: JSON lines, or event tables.
        problems: Collects issues; None: a new collection that is not strict.
        window_ms: How far out of order a record may come; None: sort everything.
        progress: Receives the progress of reading as text.

    Raises:
        ConfigError: A file does not exist, a pattern matches no file, or an event table has a mapping.
    """
    return ReplayLog(expand(paths), mapping, problems or LogIssues(), window_ms, progress)


def expand(paths: Sequence[str | Path]) -> list[Path]:
    """Resolve folders and patterns to distinct files, in the order of `paths`; the files of one pattern are sorted by name.

    Raises:
        ConfigError: A file does not exist, or a pattern matches no file.
    """
    files: dict[Path, None] = {}
    for name_or_pattern in map(str, paths):
        path = Path(name_or_pattern)
        if path.is_dir():
            matches = sorted(entry for entry in path.rglob("*") if entry.is_file() and not entry.name.startswith((".", "_")))
        else:
            matches = [path] if path.is_file() else [Path(name) for name in sorted(glob.glob(name_or_pattern, recursive=True))]  # noqa: PTH207 (absolute patterns too)
        matches = [match for match in matches if match.is_file()]
        if not matches:
            raise ConfigError(
                f"there is no log file {name_or_pattern}: name files, folders, or patterns in quotes, as 'logs/*.jsonl.gz'"
            )
        files.update(dict.fromkeys(matches))
    return list(files)


def chunks_of(
    source: LogSource,
    size: int,
    skip: int = 0,
    *,
    whole_times: bool = False,
    refuse: Callable[[str, str, str], None] | None = None,
) -> Iterator[LogChunk]:
    """Cut a log into chunks.

    Args:
        source: The log.
        size: Records of source topics per chunk. A chunk is shorter at the end of the log, and where it would span a day,
            because no state may expire within a chunk.
        skip: Number of records (of source topics) that were replayed before; the labels up to the next record are skipped too.
        whole_times: Whether a chunk ends only where the event time changes.
        refuse: Receives file, place and reason of each invalid label; None: it becomes an issue of the source at once.
    """
    refuse = refuse or partial(source.problems.add, of_record=True)
    records: list[LogRecord] = []
    labels: list[Label] = []
    seen = 0
    for record in source.records():
        if record.topic == LABELS:
            if seen > skip or not skip:  # labels right after a checkpoint belong to the record before them
                try:
                    labels.append(decode_label(record.value))
                except InvalidEventError as err:
                    refuse(*source.where(record), f"no label: {err}")
            continue
        seen += 1
        if seen <= skip:
            continue
        if records:
            is_full = len(records) >= size and not (whole_times and record.time_ms == records[-1].time_ms)
            if is_full or record.time_ms - records[0].time_ms >= _DAY_MS:
                yield LogChunk(records, labels)
                records, labels = [], []
        records.append(record)
    if records or labels:
        yield LogChunk(records, labels)


def decoded(source: LogSource, size: int) -> Iterator[tuple[list[Event], list[Label]]]:
    """Yield events and labels in canonical order, chunk by chunk; other records are issues."""
    decoder = Decoder(future_skew_ms=ANY_SKEW_MS)
    for chunk in chunks_of(source, size):
        events = []
        for record in chunk.records:
            try:
                events.append(decoder.decode(record.topic, record.key, record.value, record.timestamp))
            except InvalidEventError as err:
                source.problems.add(*source.where(record), str(err))
        yield events, chunk.labels
