"""Features alone, of a log that is kept as an event table: from its columns into the fold, without an object for each event.

What comes out is what `CanonicalReplay` makes of the same log: the same rows of features, the same counts. Nothing is answered:
who wants answers replays the table record by record. Two cores are used.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_app.codec.decode import Decoder
from stream_app.codec.identity import Identity
from stream_app.config import Settings
from stream_app.errors import InputFileError, InvalidEventError
from stream_app.events import Label
from stream_app.features.columns import EventColumns
from stream_app.features.engine import FeatureEngine
from stream_app.features.folded import FoldResult
from stream_app.features.table_columns import TableReader
from stream_app.inference.ranker import PriorRanker
from stream_app.replay.event_table import EventTable
from stream_app.replay.features_file import feature_table
from stream_app.replay.records import LABELS, LogRecord
from stream_app.replay.resident import Resident
from stream_app.replay.run import Outputs, ReplaySummary, reached
from stream_app.replay.sources import LogSource
from stream_app.replay.table_events import COLUMNS, DICTIONARIES, events_of, identifiers, known
from stream_app.wiring import build_engine

__all__ = ["TableFeatures", "TableReplay", "replay_features"]

_DAY_MS: Final = 86_400_000
_RECORD: Final = ("timestamp", "partition", "offset")


@dataclass(frozen=True, slots=True)
class TableFeatures:
    """Features of the next events of a table: their rows (a pyarrow record batch), and what was folded."""

    events: Any
    folded: FoldResult


class TableReplay:
    """One pass over a table.

    Args:
        table: Opened.
        engine: Whose features.
        identity: Key of the identifiers.
        source: The same table as a log: names the records that are no events, and is told of them.
        skew_ms: features.future_skew_ms of the settings.

    Attributes:
        summary: What was counted so far.
    """

    def __init__(self, table: EventTable, engine: FeatureEngine, identity: Identity, source: LogSource, skew_ms: int) -> None:
        self.summary = ReplaySummary()
        self._table, self._engine, self._identity, self._source = table, engine, identity, source
        self._decoder, self._skew_ms = Decoder(future_skew_ms=skew_ms), skew_ms
        self._label = msgspec.json.Decoder(Label).decode
        self._state = Resident(engine)

    def batches(self, size: int) -> Iterator[TableFeatures]:
        """Yield the features of all events, at most `size` at a time."""
        taken: list[Any] = []

        def parts() -> Iterator[tuple[EventColumns, NDArray[np.int64]]]:
            count = 0
            for group in range(self._table.row_groups):
                events = self._events(group)
                if not len(events):
                    continue
                columns = events_of(events)
                reader = TableReader(self._engine.reader, columns, self._identity)
                for first, last in _cut(columns.time_ms, size):
                    taken.append(events.slice(first, last - first))
                    yield reader.read(first, last), np.arange(count + 1, count + 1 + last - first, dtype=np.int64)
                    count += last - first

        for folded in self._state.folds(parts()):
            events = taken.pop(0)
            first_ms, last_ms = (events.column("time_ms")[at].as_py() for at in (0, -1))
            self.summary.take_features(first_ms, last_ms, folded, {PriorRanker.version: len(events)})
            yield TableFeatures(events, folded)

    def _events(self, group: int) -> Any:  # noqa: ANN401 (a pyarrow record batch)
        """Read a row group, count what is no event, and return what is one."""
        batch = self._table.batch(group, [*COLUMNS, *_RECORD], DICTIONARIES)
        timestamp, time_ms = batch.column("timestamp").to_numpy(), batch.column("time_ms").to_numpy()
        is_event = known(batch.column("event_id")) & ((timestamp < 0) | (time_ms <= timestamp + self._skew_ms))
        if is_event.all():
            self.summary.records += len(batch)
            return batch
        topic = batch.column("topic")
        names: list[str] = topic.dictionary.to_pylist()
        is_label = topic.indices.to_numpy() == (names.index(LABELS) if LABELS in names else -1)
        self.summary.records += int((~is_label).sum())
        self._take_others(group, np.flatnonzero(~is_event).tolist(), is_label)
        return batch.filter(is_event)

    def _take_others(self, group: int, rows: list[int], is_label: NDArray[np.bool_]) -> None:
        """Count the labels, and say of the records that are neither labels nor events why."""
        for row, record in zip(rows, self._table.taken(group, rows), strict=True):
            if is_label[row]:
                self._take_label(record)
            else:
                self._take_dead(record)

    def _take_label(self, record: LogRecord) -> None:
        try:
            self._label(record.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            self._problem(record, f"no label: {err}")
        else:
            self.summary.labels += 1

    def _take_dead(self, record: LogRecord) -> None:
        self.summary.dead_letters += 1
        try:
            self._decoder.decode(record.topic, record.key, record.value, record.timestamp)
        except InvalidEventError as err:
            self._problem(record, f"no event: {err}")
        else:
            raise InputFileError(
                f"{' '.join(self._source.where(record))} is an event for this Millrace, and was none for the one that wrote the "
                "table. Write it again with `millrace sort`"
            )

    def _problem(self, record: LogRecord, reason: str) -> None:
        self._source.problems.add(*self._source.where(record), reason, of_record=True)


def replay_features(settings: Settings, path: Path, source: LogSource, outputs: Outputs, size: int) -> ReplaySummary:
    """Write the features of a table, and nothing else.

    Args:
        settings: What a worker would be started with; no model.
        path: The table.
        source: The same as a log.
        outputs: Of which the features are written.
        size: Events at a time.

    Raises:
        InputFileError: The table is damaged, or something is wrong with it and the problems are strict.
    """
    assert outputs.features is not None, "there is nothing to be done"
    assert not outputs.sinks, "answers need every record"
    begin_s = time.monotonic()
    engine = build_engine(settings)
    identity = Identity(settings.privacy.id_key.reveal().encode())
    with EventTable(path) as table:
        replay = TableReplay(table, engine, identity, source, settings.features.future_skew_ms)
        source.total = table.rows
        for batch in replay.batches(size):
            versions = [PriorRanker.version] * len(batch.events)
            outputs.features.append(feature_table(engine, identifiers(batch.events), batch.folded, versions))
            outputs.progress(replay.summary.records, reached(replay.summary, source, begin_s))
            if outputs.stop():
                break
        else:
            outputs.features.finish()
            outputs.features.tidy()
            replay.summary.complete = True
    replay.summary.seconds = time.monotonic() - begin_s
    return replay.summary


def _cut(time_ms: NDArray[np.int64], size: int) -> Iterator[tuple[int, int]]:
    """Cut events into batches of at most `size`, each within a day: in a batch no state expires."""
    first = 0
    while first < len(time_ms):
        last = min(first + size, int(np.searchsorted(time_ms, time_ms[first] + _DAY_MS)))
        yield first, last
        first = last
