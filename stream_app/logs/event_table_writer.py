"""Write a log as an event table (see event_table.py) by row groups, in bounded memory, completely or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec

from stream_app.codec.decode import ANY_SKEW_MS, Decoder, decode_label
from stream_app.config import Settings
from stream_app.errors import ConfigError, InvalidEventError
from stream_app.events import Event
from stream_app.logs.event_table import DICTIONARIES, EVENT_FIELDS, event_table_schema
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_options import LogOptions, open_source
from stream_app.logs.log_records import LABELS, LogRecord
from stream_app.logs.log_source import ReplayLog, expand
from stream_app.logs.parquet_parts import arrow
from stream_app.logs.sorting import held_bytes

_ROW_GROUP: Final = 65_536
_GROUP_BYTES: Final = 128 << 20  # of keys, values and headers; a group of huge records has fewer rows
_ALL_BYTES: Final = 1 << 30  # Parquet drops a dictionary beyond its limit in the middle of a row group
_PROGRESS_RECORDS: Final = 2_000


def sort_log(
    settings: Settings, options: LogOptions, out: Path, problems: LogIssues, progress: Callable[[int, str], None]
) -> dict[str, Any]:
    """Write a log as one event table; return the summary that the command prints.

    Args:
        settings: The section `kafka` names the broker.
        options: Selects the log.
        out: The table. An existing file is replaced when the new one is complete.
        problems: Collects the issues of the log.
        progress: Receives the number of written records, and the current step as text.

    Raises:
        ConfigError: The options contradict one another, a file does not exist, or `out` belongs to the log or cannot be written.
        InputFileError: The log has an issue, and `problems` is strict.
    """
    contradictions = options.problems()
    if contradictions:
        raise ConfigError("; ".join(contradictions))
    if out.resolve() in {path.resolve() for path in expand(options.paths)}:
        raise ConfigError(f"--out {out} is a file of the log: name another one")
    begin_s = time.monotonic()
    source = open_source(settings, options, problems, lambda line: progress(0, line))
    sources = source.sources if isinstance(source, ReplayLog) else ()
    with EventTableWriter(out, sources, lambda record, reason: problems.add(*source.where(record), reason)) as writer:
        size = writer.write(source.records(), lambda count: progress(count, "writing"))
    return {
        "out": str(out),
        **asdict(writer.counts),
        "problems": problems.count,
        "problems_by_reason": problems.summary(),
        "bytes": size,
        "seconds": round(time.monotonic() - begin_s, 2),
    }


@dataclass(slots=True)
class Counts:
    """Numbers of records: all, events, records of the topic labels, and invalid records of source topics."""

    records: int = 0
    events: int = 0
    labels: int = 0
    no_events: int = 0


class EventTableWriter(AbstractContextManager["EventTableWriter"]):
    """Writes one table; a context manager. `write` replaces an existing file once the new one is complete.

    Args:
        out: The file. Until it is complete it has a temporary name in the same folder that begins with a dot.
        sources: Name and unit ("line" or "row") of each file of the log, indexed by the file number in a place.
        refuse: Receives each record that is not an event or label, and the reason; the table contains it all the same.

    Raises:
        ConfigError: The file cannot be written, or pyarrow is not installed.
    """

    def __init__(
        self,
        out: Path,
        sources: Sequence[tuple[str, str]],
        refuse: Callable[[LogRecord, str], None] = lambda _record, _reason: None,
    ) -> None:
        schema = event_table_schema(sources)
        from pyarrow import parquet

        self._out, self._fresh, self._refuse = out, out.with_name(f".{out.name}.tmp"), refuse
        self._decode = Decoder(future_skew_ms=ANY_SKEW_MS).decode
        self._waiting: list[LogRecord] = []
        self._bytes = 0
        self.counts = Counts()
        with self._writing():
            self._file = self._fresh.open("wb")
            self._writer: Any = parquet.ParquetWriter(
                self._file, schema, compression="zstd", use_dictionary=[*DICTIONARIES, "key"],
                dictionary_pagesize_limit=_ALL_BYTES, write_page_checksum=True,
            )  # fmt: skip

    def __exit__(self, *_exception: object) -> None:
        """Remove an incomplete file."""
        for open_one in (self._writer, self._file):
            with suppress(OSError):  # a full disk was reported before
                open_one.close()
        self._fresh.unlink(missing_ok=True)

    def write(self, records: Iterable[LogRecord], progress: Callable[[int], None] = lambda _count: None) -> int:
        """Write all records and move the file to its final name; return its size in bytes.

        Args:
            records: The records of the log, in canonical order.
            progress: Called now and then with the number of written records.

        Raises:
            ConfigError: The file cannot be written, for example because the disk is full.
        """
        for count, record in enumerate(records, 1):
            self._waiting.append(record)
            self._bytes += held_bytes(record)
            if len(self._waiting) >= _ROW_GROUP or self._bytes >= _GROUP_BYTES:
                self._write_group()
            if count % _PROGRESS_RECORDS == 0:
                progress(count)
        self._write_group()
        with self._writing():
            self._writer.close()
            size = self._file.tell()
            os.fsync(self._file.fileno())
            self._file.close()
            self._fresh.replace(self._out)
        return size

    def _write_group(self) -> None:
        if not self._waiting:
            return
        events = [self._event(record) for record in self._waiting]
        table = _table(self._waiting, events, self._writer.schema)
        with self._writing():
            self._writer.write_table(table, row_group_size=_ROW_GROUP)
        self.counts.records += len(events)
        self._waiting, self._bytes = [], 0

    def _event(self, record: LogRecord) -> Event | None:
        if record.topic == LABELS:
            self.counts.labels += 1
            try:
                decode_label(record.value)
            except InvalidEventError as err:
                self._refuse(record, f"no label: {err}")
            return None
        try:
            event = self._decode(record.topic, record.key, record.value, record.timestamp)
        except InvalidEventError as err:
            self.counts.no_events += 1
            self._refuse(record, f"no event: {err}")
            return None
        self.counts.events += 1
        return event

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            reason = err.strerror or err
            raise ConfigError(f"cannot write {self._out}: {reason}. Name one that can be written, with room") from err


def _table(records: Sequence[LogRecord], events: Sequence[Event | None], schema: Any) -> Any:  # noqa: ANN401 (of pyarrow)
    pa = arrow()
    columns = {name: [getattr(record, name) for record in records] for name in LogRecord.__struct_fields__}
    columns["headers"] = [[{"name": name, "value": value} for name, value in headers] for headers in columns["headers"]]
    columns |= {name: [getattr(event, name, None) for event in events] for name in EVENT_FIELDS}  # None has no fields
    columns["lines"] = msgspec.to_builtins(columns["lines"])
    places = pa.array(chain.from_iterable(columns.pop("place")), pa.int64())
    arrays = {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}
    arrays["place"] = pa.FixedSizeListArray.from_arrays(places, 3)
    return pa.table([arrays[name] for name in schema.names], schema=schema)
