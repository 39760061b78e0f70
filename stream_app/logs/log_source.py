"""A log in canonical order: many files merged by event time, in bounded memory.

Without a window all of it is sorted, on disk where memory does not hold it: any disorder comes right. With a window nothing is
written; a record that comes later than the window allows cannot be put in its place any more and is left out, as a problem.
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

__all__ = ["LogChunk", "LogSource", "ReplayLog", "chunks_of", "decoded", "expand", "open_log"]

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class LogChunk:
    """The next records in canonical order, and the labels that stand among them."""

    records: list[LogRecord]
    labels: list[Label]


class LogSource(Protocol):
    """What a replay reads: records in canonical order, and how to name one for a person."""

    problems: LogIssues
    total: int | None  # records, labels among them, once that is known

    def records(self) -> Iterator[LogRecord]:
        """Yield all records, labels among them, in canonical order; the same ones at every call."""
        ...

    def where(self, record: LogRecord) -> tuple[str, str]:
        """Name the file (or topic) and the line (or offset) of a record."""
        ...

    def identity(self) -> list[str]:
        """Tell what the log consists of: a resumed replay must find the same."""
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
        self._files = log_files(files, mapping, problems, self._tell)
        self._of_number = [file for file in self._files for _ in file.sources]
        self.total: int | None = None  # records, once all are read; of a table at once
        self._count = 0

    @property
    def sources(self) -> list[tuple[str, str]]:
        """Name and unit ("line" or "row") of each file that records come from, by the numbers in their places."""
        return [source for file in self._files for source in file.sources]

    @property
    def table(self) -> Path | None:
        """The event table that is the whole log, if it is one: its records are in canonical order."""
        return self._files[0].path if len(self._files) == 1 and self._files[0].is_table else None

    def records(self) -> Iterator[LogRecord]:
        """Yield all records in canonical order."""
        self._count = 0
        if self.table is not None:
            self.total = self._files[0].total
            return self._counted(self._files[0].records())  # as it stands
        if self._window_ms is None:
            return sorted_records(self._counted(chain.from_iterable(file.records() for file in self._files)))
        return self._counted(heapq.merge(*(self._windowed(file, self._window_ms) for file in self._files)))

    def where(self, record: LogRecord) -> tuple[str, str]:
        """Name the file and the line, or the topic's partition and the offset."""
        if at_broker(record):
            return f"{record.topic}-{record.partition}", f"offset {record.offset}"
        file = self._of_number[record.partition]
        return str(file.path), file.line_of(record)

    def identity(self) -> list[str]:
        """Name every file with its size and when it was changed, and the mapping."""
        found = [(file.path, file.path.stat()) for file in self._files]
        told = [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in found]
        return [*told, self._mapping.text if self._mapping is not None else "", str(self._window_ms)]

    def _tell(self, line: str) -> None:
        if self._window_ms is None and self.table is None:  # else reading is the work itself, and who does it tells
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
        mapping: How rows become events; None: JSON lines, or event tables.
        problems: Takes note of what is wrong; None: of its own, not strict.
        window_ms: None: sort all; else how far out of order a record may come.
        progress: Told how far reading is.

    Raises:
        ConfigError: A file is not there, a pattern matches none, or an event table has a mapping.
    """
    return ReplayLog(expand(paths), mapping, problems or LogIssues(), window_ms, progress)


def expand(paths: Sequence[str | Path]) -> list[Path]:
    """Resolve folders and patterns; files in the order given, those of one pattern by name, each once.

    Raises:
        ConfigError: A file is not there, or a pattern matches none.
    """
    found: dict[Path, None] = {}
    for given in map(str, paths):
        path = Path(given)
        if path.is_dir():
            matches = sorted(entry for entry in path.rglob("*") if entry.is_file() and not entry.name.startswith((".", "_")))
        else:
            matches = [path] if path.is_file() else [Path(name) for name in sorted(glob.glob(given, recursive=True))]  # noqa: PTH207 (absolute patterns too)
        matches = [match for match in matches if match.is_file()]
        if not matches:
            raise ConfigError(f"there is no log file {given}: name files, folders, or patterns in quotes, as 'logs/*.jsonl.gz'")
        found.update(dict.fromkeys(matches))
    return list(found)


def chunks_of(
    source: LogSource,
    size: int,
    skip: int = 0,
    *,
    whole_times: bool = False,
    refuse: Callable[[str, str, str], None] | None = None,
) -> Iterator[LogChunk]:
    """Cut a log into chunks, labels besides.

    Args:
        source: The log.
        size: Records of the source topics in a chunk. It has fewer where the log ends, or where a day has passed: within a chunk
            no state expires.
        skip: So many records (of source topics) were replayed before; labels up to the next one are left out too.
        whole_times: Whether a chunk ends only where the event time changes, however many records have the same.
        refuse: Told of each label that is none: file, place and reason; None: it is noted among the source's problems at once.
    """
    refuse = refuse or partial(source.problems.add, of_record=True)
    records: list[LogRecord] = []
    labels: list[Label] = []
    seen = 0
    for record in source.records():
        if record.topic == LABELS:
            if seen > skip or not skip:  # those right behind a checkpoint went with the record before them
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
    """Yield events and labels in canonical order, chunk by chunk; what is neither is a problem."""
    decoder = Decoder(future_skew_ms=ANY_SKEW_MS)
    for chunk in chunks_of(source, size):
        events = []
        for record in chunk.records:
            try:
                events.append(decoder.decode(record.topic, record.key, record.value, record.timestamp))
            except InvalidEventError as err:
                source.problems.add(*source.where(record), str(err))
        yield events, chunk.labels
