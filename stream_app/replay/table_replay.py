"""Replay of an event table for features alone: columns go into the fold without an object per event.

Feature rows and counts equal those of `CanonicalReplay` for the same log. There are no answers: for answers a table is replayed
record by record. Two cores are used.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_app.codec.decode import Decoder, decode_label
from stream_app.config import Settings
from stream_app.errors import InputFileError, InvalidEventError
from stream_app.features.columns.event_columns import EventColumns
from stream_app.features.columns.table_columns import TableReader
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldResult
from stream_app.inference.ranker import PriorRanker
from stream_app.logs.event_table import EventTable
from stream_app.logs.log_issues import MOST_APART_MS, time_jump
from stream_app.logs.log_records import LABELS, LogRecord
from stream_app.logs.log_source import LogSource
from stream_app.logs.parquet_parts import arrow
from stream_app.logs.table_events import COLUMNS, DICTIONARIES, events_of, identifiers, known
from stream_app.privacy import Pseudonymizer
from stream_app.replay.features_file import feature_table
from stream_app.replay.memory_state import MemoryState
from stream_app.replay.replay_run import Outputs, ReplaySummary, progress_note
from stream_app.wiring import build_engine

_RECORD: Final = ("timestamp", "partition", "offset")


@dataclass(frozen=True, slots=True)
class TableFeatures:
    """Features of the next events of a table: their rows (a pyarrow record batch) and their fold."""

    events: Any
    folded: FoldResult


class _RowNote(NamedTuple):
    """Counts of one row (1 label, 1 dead letter, or neither) and its issue."""

    row: int
    labels: int
    dead: int
    problem: tuple[LogRecord, str, str] | None  # record, suffix of its place, reason


@dataclass(frozen=True, slots=True)
class _Tally:
    """Counts of a range of records; `lost`: place and reason if the table ends early."""

    records: int = 0
    notes: Sequence[_RowNote] = ()
    lost: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    """A row group: its events (a pyarrow record batch) and their rows (K,), which rows are labels (N,), notes on other rows."""

    events: Any
    rows: NDArray[np.int64]
    is_label: NDArray[np.bool_]
    notes: Sequence[_RowNote]

    def tally(self, begin: int, end: int) -> _Tally:
        """Count the rows [begin, end)."""
        notes = [note for note in self.notes if begin <= note.row < end]
        return _Tally(end - begin - int(self.is_label[begin:end].sum()), notes)


class TableReplay:
    """One pass over a table.

    `source` is the same table as a log: it names records, and collects issues. `summary` has the counts up to the last yielded
    event.
    """

    def __init__(
        self, path: Path, table: EventTable, engine: FeatureEngine, identity: Pseudonymizer, source: LogSource, skew_ms: int
    ) -> None:
        self.summary = ReplaySummary()
        self._path, self._table, self._engine, self._identity, self._source = path, table, engine, identity, source
        self._decoder, self._skew_ms = Decoder(future_skew_ms=skew_ms), skew_ms
        self._state = MemoryState(engine)
        self._last_ms: int | None = None

    def batches(self, size: int) -> Iterator[TableFeatures]:
        """Yield the features of all events, at most `size` at a time.

        Raises:
            InputFileError: The table has an issue, and its issues are strict.
        """
        pending: deque[tuple[Any, list[_Tally]]] = deque()  # of batches folded ahead; counted when yielded
        uncounted: list[_Tally] = []  # of records after the last event read
        for folded in self._state.folds(self._parts(size, pending, uncounted)):
            events, tallies = pending.popleft()
            self._count(tallies)
            first_ms, last_ms = (events.column("time_ms")[at].as_py() for at in (0, -1))
            self.summary.take_features(first_ms, last_ms, folded, {PriorRanker.version: len(events)})
            yield TableFeatures(events, folded)
        self._count(uncounted)

    def _parts(
        self, size: int, pending: deque[tuple[Any, list[_Tally]]], uncounted: list[_Tally]
    ) -> Iterator[tuple[EventColumns, NDArray[np.int64]]]:
        count = 0
        for number in range(self._table.row_groups):
            try:
                group = self._group(number)
                columns = events_of(group.events)
                reader = TableReader(self._engine.reader, columns, self._identity)
            except InputFileError as err:
                row = (0, *self._table.ends())[number]
                uncounted.append(_Tally(lost=(f"after row {row}" if row else "the whole file", str(err))))
                return
            begin = 0
            for first in range(0, len(group.rows), size):
                last = min(first + size, len(group.rows))
                end = len(group.is_label) if last == len(group.rows) else int(group.rows[last])
                pending.append((group.events.slice(first, last - first), [*uncounted, group.tally(begin, end)]))
                uncounted.clear()
                yield reader.read(first, last), np.arange(count + 1, count + 1 + last - first, dtype=np.int64)
                count, begin = count + last - first, end
            if begin < len(group.is_label):  # the group has no event
                uncounted.append(group.tally(begin, len(group.is_label)))

    def _count(self, tallies: Sequence[_Tally]) -> None:
        problems = self._source.problems
        for tally in tallies:
            self.summary.records += tally.records
            for notes in tally.notes:
                self.summary.labels += notes.labels
                self.summary.dead_letters += notes.dead
                if notes.problem is not None:
                    record, behind, reason = notes.problem
                    file, place = self._source.where(record)
                    problems.add(file, place + behind, reason, of_record=not behind)
            if tally.lost is not None:
                problems.add(str(self._path), *tally.lost, lost=True)

    def _group(self, number: int) -> _Group:
        """Read a row group.

        Raises:
            InputFileError: It is damaged, out of order, or of another Millrace.
        """
        batch = self._table.batch(number, [*COLUMNS, *_RECORD], DICTIONARIES)
        timestamp, time_ms = batch.column("timestamp").to_numpy(), batch.column("time_ms").to_numpy()
        is_event = known(batch.column("event_id")) & ((timestamp < 0) | (time_ms - timestamp <= self._skew_ms))
        topic = batch.column("topic")
        names: list[str] = topic.dictionary.to_pylist()
        is_label = topic.indices.to_numpy() == (names.index(LABELS) if LABELS in names else -1)
        notes = [*self._jumps(number, time_ms), *self._non_events(number, np.flatnonzero(~is_event).tolist(), is_label)]
        events = batch if is_event.all() else batch.filter(arrow().array(is_event))
        return _Group(events, np.flatnonzero(is_event), is_label, sorted(notes, key=lambda note: note.row))

    def _jumps(self, number: int, time_ms: NDArray[np.int64]) -> Iterator[_RowNote]:
        if not len(time_ms):
            return
        before_ms = np.concatenate(([time_ms[0] if self._last_ms is None else self._last_ms], time_ms[:-1]))
        self._last_ms = int(time_ms[-1])
        back = np.flatnonzero(time_ms < before_ms)
        if len(back):
            times = f"{time_ms[back[0]]} stands behind {before_ms[back[0]]}"
            raise InputFileError(f"row group {number} of {self._path} is not in order of time ({times}). Sort the log again")
        rows = np.flatnonzero(time_ms - before_ms > MOST_APART_MS).tolist()
        for row, record in self._records(number, rows):
            apart, reason = time_jump(int(before_ms[row]), int(time_ms[row])) or ("", "")
            yield _RowNote(row, 0, 0, (record, f" ({apart})", reason))

    def _non_events(self, number: int, rows: list[int], is_label: NDArray[np.bool_]) -> Iterator[_RowNote]:
        """Count the labels, and find the reason of each invalid record."""
        for row, record in self._records(number, rows):
            if is_label[row]:
                wrong = _why_no_label(record)
                yield _RowNote(row, int(wrong is None), 0, None if wrong is None else (record, "", wrong))
            else:
                yield _RowNote(row, 0, 1, (record, "", self._why_no_event(record)))

    def _records(self, number: int, rows: list[int]) -> Iterator[tuple[int, LogRecord]]:
        return zip(rows, self._table.select(number, rows) if rows else (), strict=True)

    def _why_no_event(self, record: LogRecord) -> str:
        try:
            self._decoder.decode(record.topic, record.key, record.value, record.timestamp)
        except InvalidEventError as err:
            return f"no event: {err}"
        raise InputFileError(
            f"{' '.join(self._source.where(record))} is an event for this Millrace, and was none for the one that wrote the "
            "table. Sort the log again with this one"
        )


def _why_no_label(record: LogRecord) -> str | None:
    try:
        decode_label(record.value)
    except InvalidEventError as err:
        return f"no label: {err}"
    return None


def replay_features(settings: Settings, path: Path, source: LogSource, outputs: Outputs, size: int) -> ReplaySummary:
    """Write the features of a table, which `source` opens as a log, in batches of `size` events.

    Raises:
        InputFileError: The table is damaged, or has an issue and issues are strict.
    """
    assert outputs.features is not None, "features are the only output"
    assert not outputs.sinks, "answers need every record"
    begin_s = time.monotonic()
    engine = build_engine(settings)
    identity = Pseudonymizer(settings.privacy.id_key.get_secret_value().encode())
    try:
        table = EventTable(path)
    except InputFileError as err:
        source.problems.add(str(path), "the whole file", str(err), lost=True)
        return ReplaySummary(complete=True)
    with table:
        replay = TableReplay(path, table, engine, identity, source, settings.features.future_skew_ms)
        source.total = table.rows
        for batch in replay.batches(size):
            versions = [PriorRanker.version] * len(batch.events)
            outputs.features.append(feature_table(engine, identifiers(batch.events), batch.folded, versions))
            outputs.progress(replay.summary.records, progress_note(replay.summary, source, begin_s))
            if outputs.stop():
                break
        else:
            outputs.features.finish()
            outputs.features.tidy()
            replay.summary.complete = True
    replay.summary.seconds = time.monotonic() - begin_s
    return replay.summary
