"""Read one file of a log as records: JSON lines or an event table that Millrace wrote, or rows of any file by a mapping.

A JSON line is `{"topic", "key", "value", "time_ms"}`, as `millrace simulate --to` and `millrace import --to` write it; a line
recorded from Kafka also has `partition` and `offset`. Keys and values that are not UTF-8 text are in `key_base64` and
`value_base64`.

Unreadable lines and rows are issues with file and line. A readable record whose value is not an event is no issue here: a replay
turns it into a dead letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import msgspec

from stream_app.codec.decode import ANY_SKEW_MS, Decoder, decode_label
from stream_app.errors import ConfigError, InputFileError, InvalidEventError
from stream_app.events import Event, EventTimeMs, Label
from stream_app.logs.compression import DAMAGE, decompressed
from stream_app.logs.event_table import EventTable, is_event_table, is_parquet
from stream_app.logs.ingest.convert import Converter
from stream_app.logs.ingest.mapping import LogMapping
from stream_app.logs.ingest.open_rows import open_rows
from stream_app.logs.ingest.parquet_rows import ParquetRows
from stream_app.logs.ingest.rows import BadRow
from stream_app.logs.log_issues import LogIssues, time_jump
from stream_app.logs.log_records import LABELS, TOPIC_CODES, LogRecord, at_broker

_CHUNK_ROWS: Final = 2_000
_ALL_ROWS: Final = 1 << 60
_PROGRESS_LINES: Final = 2_000  # lines between two reports of progress


_Time = Annotated[int, msgspec.Meta(ge=-1, le=1 << 53)]  # exact in any reader's JSON, and 285,000 years ahead
_Partition = Annotated[int, msgspec.Meta(ge=-1, le=(1 << 31) - 1)]  # as at the broker
_Offset = Annotated[int, msgspec.Meta(ge=-1, le=(1 << 63) - 1)]


class RecordLine(msgspec.Struct, omit_defaults=True):
    """One line of JSON. `time_ms` is the record's timestamp; a partition of -1 marks a line that was not recorded from Kafka."""

    topic: str
    key: str | None = None
    value: str | None = None
    time_ms: _Time = -1
    partition: _Partition = -1
    offset: _Offset = -1
    key_base64: bytes | None = None
    value_base64: bytes | None = None
    headers: list[tuple[str, bytes | None]] = []


class _EventTime(msgspec.Struct):
    event_time_ms: EventTimeMs


class _LabelTime(msgspec.Struct):
    label_time_ms: EventTimeMs


_line: Final = msgspec.json.Decoder(RecordLine).decode
_event_time: Final = msgspec.json.Decoder(_EventTime).decode
_label_time: Final = msgspec.json.Decoder(_LabelTime).decode


def time_of(topic: str, value: bytes | None, timestamp: int) -> int:
    """Return the event time of a record, the time at which a label became known, or else the timestamp (at least 0)."""
    try:
        return _label_time(value or b"").label_time_ms if topic == LABELS else _event_time(value or b"").event_time_ms
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return max(0, timestamp)


class LogFile:
    """One file of a log.

    Args:
        path: The file.
        number: Number of the file in the log, which is the `partition` of its rows; see `log_files`.
        mapping: Turns its rows into events; None: JSON lines, or an event table.
        problems: Collects issues.
        progress: Called now and then with the share of the file that has been read.

    Attributes:
        is_table: Whether the file is an event table, in canonical order.
        sources: Name and unit ("line" or "row") of the file, or of each file that was sorted into the table.
        total: Number of records of a table; else None.
        rows: Rows (or lines) that `records` has read so far.
        refused: Rows that are not a record; `events` also counts records that are not an event.

    Raises:
        ConfigError: The file is an event table, and there is a mapping.
    """

    def __init__(
        self,
        path: Path,
        number: int,
        mapping: LogMapping | None,
        problems: LogIssues,
        progress: Callable[[float], None] = lambda _share: None,
    ) -> None:
        self.path, self.number = path, number
        self._mapping, self._problems, self._progress = mapping, problems, progress
        self._last_ms: int | None = None
        self.rows = self.refused = 0
        if mapping is not None and is_event_table(path):
            raise ConfigError(
                f"{path} is an event table of `millrace sort`: its rows are events; leave out the mapping {mapping.origin}"
            )
        self.is_table = mapping is None and is_parquet(path)
        self.total: int | None = None
        self.sources = self._table_sources() if self.is_table else ((str(path), "line" if mapping is None else "row"),)

    def parts(self) -> list[tuple[int, int]]:
        """Split the file into parts that can be read independently: the row groups of Parquet; any other file is one part.

        Returns:
            For each part the number of rows before it, and up to its end.
        """
        try:
            edges = self._edges()
        except InputFileError:
            edges = []  # the reader of the file records the issue
        return list(pairwise([0, *edges[:-1], _ALL_ROWS]))

    def records(self, part: tuple[int, int] = (0, _ALL_ROWS)) -> Iterator[LogRecord]:
        """Yield the records of the file, or of one of its parts, in the order of the file.

        Raises:
            InputFileError: There is an issue, and `problems` is strict.
        """
        self._last_ms, self.rows, self.refused = None, 0, 0
        if self.is_table:
            read = self._table_records(*part)
        else:
            read = self._lines() if self._mapping is None else self._rows(self._mapping, *part)
        for record in read:
            if self._last_ms is not None and (jump := time_jump(self._last_ms, record.time_ms)) is not None:
                self._problem(f"{self.line_of(record)} ({jump[0]})", jump[1])
            self._last_ms = record.time_ms
            yield record
        self._progress(1.0)

    def events(self) -> Iterator[Event | Label]:
        """Yield the decoded events and labels, in the order of the file; other records are refused.

        Raises:
            InputFileError: See `records`.
        """
        decode = Decoder(future_skew_ms=ANY_SKEW_MS).decode
        for record in self.records():
            try:
                if record.topic == LABELS:
                    yield decode_label(record.value)
                else:
                    yield decode(record.topic, record.key, record.value, record.timestamp)
            except InvalidEventError as err:
                self._refuse(self.line_of(record), f"no {'label' if record.topic == LABELS else 'event'}: {err}")

    def line_of(self, record: LogRecord) -> str:
        """Return the line, row or offset of a record, for messages."""
        if at_broker(record):
            return f"offset {record.offset} of {record.topic}-{record.partition}"
        name, unit = self.sources[record.partition - self.number]
        return f"{unit} {record.place[1]} of {name}" if self.is_table else f"{unit} {record.place[1]}"

    def _edges(self) -> list[int]:
        if self.is_table:
            with EventTable(self.path) as table:
                return table.ends()
        if self._mapping is None:
            return []
        with closing(open_rows(self.path, self._mapping)) as source:
            return list(source.row_groups()) if isinstance(source, ParquetRows) else []

    def _problem(self, place: str, reason: str, *, lost: bool = False) -> None:
        self._problems.add(str(self.path), place, reason, lost=lost)

    def _refuse(self, place: str, reason: str) -> None:
        self.refused += 1
        self._problem(place, reason)

    # --- an event table ----------------------------------------------------------------------------------------------------

    def _table_sources(self) -> tuple[tuple[str, str], ...]:
        try:
            with EventTable(self.path) as table:
                self.total, sources = table.rows, table.sources
        except InputFileError:
            sources = ()  # the reader of the file records the issue
        return sources or ((str(self.path), "row"),)

    def _table_records(self, row: int, last: int) -> Iterator[LogRecord]:
        try:
            with EventTable(self.path) as table:
                for record in table.records(row, last):
                    row += 1
                    self.rows += 1
                    yield record if not self.number or at_broker(record) else _renumbered(record, self.number)
                    if row % _PROGRESS_LINES == 0:
                        self._progress(row / table.rows)
        except InputFileError as err:
            self._problem(f"after row {row}" if row else "the whole file", str(err), lost=True)

    # --- JSON lines --------------------------------------------------------------------------------------------------------

    def _lines(self) -> Iterator[LogRecord]:
        number, size = 0, max(1, self.path.stat().st_size)
        with self.path.open("rb") as raw:
            try:
                for number, text in enumerate(decompressed(raw), 1):
                    self.rows = number
                    record = self._record(number, text)
                    if record is not None:
                        yield record
                    if number % _PROGRESS_LINES == 0:
                        self._progress(raw.tell() / size)
            except DAMAGE as err:
                self._problem(f"after line {number}", _damage(err), lost=True)

    def _record(self, number: int, text: bytes) -> LogRecord | None:
        if text.isspace():
            return None
        try:
            line = _line(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            self._refuse(f"line {number}", f"no record: {err}")
            return None
        if line.topic not in TOPIC_CODES:
            self._refuse(f"line {number}", f"its topic {line.topic[:40]!r} is none of {', '.join(TOPIC_CODES)}")
            return None
        key = line.key_base64 if line.key is None else line.key.encode()
        value = line.value_base64 if line.value is None else line.value.encode()
        time_ms = time_of(line.topic, value, line.time_ms)
        timestamp = line.time_ms if line.time_ms >= 0 else time_ms
        place, partition, offset = (self.number, number, 0), self.number, number
        if line.partition >= 0:
            partition, offset = line.partition, line.offset
            place = (TOPIC_CODES[line.topic], partition, offset)
        return LogRecord(time_ms, place, line.topic, partition, offset, timestamp, key, value, line.headers)

    # --- rows by a mapping ---------------------------------------------------------------------------------------------------

    def _rows(self, mapping: LogMapping, row: int, last: int) -> Iterator[LogRecord]:
        try:
            source = open_rows(self.path, mapping)
        except InputFileError as err:
            self._problem("the whole file", str(err), lost=True)
            return
        try:
            convert, most = Converter(mapping, source.index, self.path.name.split(".")[0]).convert, len(mapping.records)
            for chunk in source.chunks(row, _CHUNK_ROWS):
                for cells in chunk:
                    if row == last:
                        return
                    row += 1
                    self.rows += 1
                    if isinstance(cells, BadRow):
                        self._refuse(f"row {row}", cells.reason)
                        continue
                    try:
                        produced = convert(cells, row)
                    except InvalidEventError as err:
                        self._refuse(f"row {row}", str(err))
                        continue
                    for number, (topic, key, value, time_ms) in enumerate(produced):
                        offset = row * most + number
                        place = (self.number, row, number)
                        yield LogRecord(time_ms, place, topic, self.number, offset, time_ms, key, value)
                self._progress(source.done_ratio())
        except InputFileError as err:
            self._problem(f"after row {row}", str(err), lost=True)
        finally:
            source.close()


def log_files(
    paths: Sequence[Path], mapping: LogMapping | None, problems: LogIssues, progress: Callable[[str], None] = lambda _line: None
) -> list[LogFile]:
    """Number the files of one log.

    A table takes one number for each file that was sorted into it, so its records equal those of these files.

    Args:
        paths: The files, in order.
        mapping: Turns their rows into events; None: they are JSON lines and event tables.
        problems: Collects issues.
        progress: Receives the progress of reading as text.

    Raises:
        ConfigError: A file is an event table, and there is a mapping.
    """

    def progress_of(path: Path, place: int) -> Callable[[float], None]:
        return lambda share: progress(f"reading {path.name} ({place} of {len(paths)}), {share:.0%}")

    files: list[LogFile] = []
    number = 0
    for place, path in enumerate(paths, 1):
        files.append(LogFile(path, number, mapping, problems, progress_of(path, place)))
        number += len(files[-1].sources)
    return files


def _renumbered(record: LogRecord, by: int) -> LogRecord:
    """Shift the file number of a record of a table that is not the first file of the log."""
    file, *row = record.place
    return msgspec.structs.replace(record, place=(file + by, *row), partition=record.partition + by)


def _damage(err: Exception) -> str:
    if isinstance(err, EOFError):
        return "the compressed stream ends too early: the file was cut off; what stands before is replayed"
    return f"cannot be read any further: {err}"
