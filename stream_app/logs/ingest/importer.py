"""The import loop: rows in, records out, a checkpoint about every second.

A checkpoint waits until the sink has everything, then writes the state. Between two checkpoints a kill loses nothing: the
next run sends those rows again, with the same event ids.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stream_app.errors import InputFileError, InvalidEventError
from stream_app.logs.ingest.convert import Converter
from stream_app.logs.ingest.mapping import LogMapping
from stream_app.logs.ingest.open_rows import open_rows
from stream_app.logs.ingest.pace import Pace
from stream_app.logs.ingest.refusals import Refusals
from stream_app.logs.ingest.rows import BadRow, RowSource
from stream_app.logs.ingest.rules import Cells
from stream_app.logs.ingest.sink import Sink
from stream_app.logs.ingest.state import ImportState, StateFile, head_of

_CHUNK_ROWS: Final = 2_000
_CHECKPOINT_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class ImportPlan:
    """What to import. `resumed` is the state of an interrupted run; `limit` counts rows of the file from its first."""

    path: Path
    mapping: LogMapping
    state_file: StateFile
    resumed: ImportState | None = None
    limit: int | None = None
    refused_path: Path | None = None
    stop: Callable[[], bool] = lambda: False


@dataclass
class ImportSummary:
    """Counts of the rows over all runs of an import; `new_events` and `seconds` cover this run."""

    rows: int = 0
    by_topic: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    refused_by_reason: dict[str, dict[str, Any]] = field(default_factory=dict)
    never_filled: list[str] = field(default_factory=list)  # of JSON lines: fields that no row of this run had a value in
    resumed_at_row: int = 0
    new_events: int = 0
    seconds: float = 0.0
    complete: bool = False

    def line(self) -> dict[str, object]:
        """Return the summary that the command prints."""
        labels = self.by_topic["labels"]
        return {
            "rows": self.rows,
            "events": self.by_topic.total() - labels,
            "by_topic": dict(sorted(self.by_topic.items())),
            "refused": self.refused,
            "refused_by_reason": self.refused_by_reason,
            "never_filled": self.never_filled,
            "labels": labels,
            "seconds": round(self.seconds, 3),
            "events_per_s": round(self.new_events / self.seconds, 1) if self.seconds else 0.0,
            "resumed_at_row": self.resumed_at_row,
            "complete": self.complete,
        }


def check_file(path: Path, mapping: LogMapping) -> None:
    """Check that a file is there, is of the mapping's format and has its columns; reads no row.

    Raises:
        InputFileError: The file is missing or unreadable, or lacks columns.
        ConfigError: Reading it needs an extra that is not installed.
    """
    open_rows(path, mapping).close()


def import_file(
    plan: ImportPlan, sink: Sink, pace: Pace, on_progress: Callable[[int, RowSource], None], chunk_rows: int = _CHUNK_ROWS
) -> ImportSummary:
    """Import a file from its first row, or from the position of an interrupted run.

    Args:
        plan: The import.
        sink: Receives the records; the caller closes it.
        pace: Limits the rate of rows.
        on_progress: Called after each chunk with the number of rows and the open file.
        chunk_rows: Rows between two checks of clock, signals and progress.

    Returns:
        The summary. After an early stop the state stays, and the next run resumes.

    Raises:
        InputFileError: The file is missing, damaged, or lacks columns; rows before the damage are sent and counted in the state.
        BrokerUnavailableError: Records were not acknowledged; the state is that of the last checkpoint.
    """
    with closing(open_rows(plan.path, plan.mapping)) as source:
        run = _Run(plan, source, sink, pace)
        with closing(run.refusals):
            return run.all_rows(on_progress, chunk_rows)


class _Run:
    def __init__(self, plan: ImportPlan, source: RowSource, sink: Sink, pace: Pace) -> None:
        self._plan, self._source, self._sink, self._pace = plan, source, sink, pace
        self._converter = Converter(plan.mapping, source.index, plan.path.name.split(".")[0])
        self._head = head_of(plan.path)
        resumed = plan.resumed or ImportState(file=str(plan.path), head=self._head)
        refused_position = None if plan.resumed is None else resumed.refused_position
        self.refusals = Refusals(resumed.by_reason, plan.refused_path, refused_position)
        self._summary = ImportSummary(rows=resumed.rows, resumed_at_row=resumed.rows, by_topic=Counter(resumed.by_topic))

    def all_rows(self, on_progress: Callable[[int, RowSource], None], chunk_rows: int) -> ImportSummary:
        plan, summary = self._plan, self._summary
        begin_s = checkpoint_s = time.monotonic()
        stopped = False
        try:
            for chunk in self._source.chunks(summary.rows, chunk_rows):
                room = len(chunk) if plan.limit is None else max(0, plan.limit - summary.rows)
                self._rows(chunk[:room])
                on_progress(summary.rows, self._source)
                stopped = plan.stop()
                if stopped or room < len(chunk) or summary.rows == plan.limit:
                    break
                if time.monotonic() >= checkpoint_s + _CHECKPOINT_S:
                    self._checkpoint()
                    checkpoint_s = time.monotonic()
        except InputFileError:
            self._checkpoint()
            raise
        self._checkpoint()
        summary.complete = not stopped
        if summary.complete:
            plan.state_file.remove()
        summary.never_filled = self._source.never_filled()
        summary.seconds = time.monotonic() - begin_s
        summary.refused, summary.refused_by_reason = self.refusals.count, self.refusals.by_reason
        return summary

    def _rows(self, chunk: list[Cells | BadRow]) -> None:
        summary, convert, send, wait = self._summary, self._converter.convert, self._sink.send, self._pace.wait
        for cells in chunk:
            row = summary.rows + 1
            if isinstance(cells, BadRow):
                self.refusals.add(row, cells.reason, cells.text)
            else:
                try:
                    produced = convert(cells, row)
                except InvalidEventError as err:
                    self.refusals.add(row, str(err), cells)
                    produced = []
                for record in produced:
                    send(*record)
                    summary.by_topic[record.topic] += 1
                    summary.new_events += record.topic != "labels"
            summary.rows = row
            wait()

    def _checkpoint(self) -> None:
        self._sink.flush()
        summary = self._summary
        self._plan.state_file.save(
            ImportState(
                file=str(self._plan.path),
                head=self._head,
                rows=summary.rows,
                by_topic=dict(summary.by_topic),
                by_reason=self.refusals.by_reason,
                sink_position=self._sink.position(),
                refused_position=self.refusals.flush(),
            )
        )
