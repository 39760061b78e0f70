"""Read a log with a mapping, or an event table, into memory, with the readers and checks of a replay.

Events are in canonical order: by event time, file, row, and record of the mapping. Invalid rows are counted; a file that cannot
be read to its end is an error, because a training on half of a log is a mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stream_app.errors import InputFileError
from stream_app.events import Event, Label
from stream_app.logs.ingest.mapping import LogMapping
from stream_app.logs.log_files import log_files
from stream_app.logs.log_issues import LogIssues

_PROGRESS_ROWS: Final = 20_000  # rows between two progress messages
_MAX_REASONS: Final = 3


@dataclass(frozen=True)
class TrainingLog:
    """Events and labels of files.

    Attributes:
        events: in canonical order.
        labels: labels, in order of the files.
        rows: number of rows.
        refused: number of rows that are neither event nor label.
    """

    events: list[Event]
    labels: list[Label]
    rows: int
    refused: int


def read_log(paths: Sequence[Path], mapping: LogMapping | None, progress: Callable[[str], None]) -> TrainingLog:
    """Read files by the mapping of their rows, None for event tables of `millrace sort`; report problems and progress.

    Raises:
        InputFileError: A file is missing, damaged or lacks columns; or no row is an event.
    """
    issues = LogIssues(whole=True, report=progress)
    events: list[Event] = []
    labels: list[Label] = []
    rows = refused = 0
    for file in log_files(paths, mapping, issues):
        reported = 0
        for message in file.events():
            if isinstance(message, Label):
                labels.append(message)
            else:
                events.append(message)
            if file.rows - reported >= _PROGRESS_ROWS:
                reported = file.rows
                progress(f"read {reported:,} rows of {file.path.name}")
        progress(f"read {file.rows:,} rows of {file.path.name}")
        rows, refused = rows + file.rows, refused + file.refused
    if not events:
        reasons = "; ".join(f"{issue['reason']} ({issue['count']:,} rows)" for issue in issues.summary()[:_MAX_REASONS])
        by_mapping = f" by the mapping {mapping.origin}" if mapping is not None else ""
        raise InputFileError(
            f"{', '.join(map(str, paths))}: none of {rows:,} rows is an event{by_mapping}: {reasons or 'there are none'}. "
            "Correct the mapping (docs/imports.md), or name another log"
        )
    events.sort(key=lambda event: event.event_time_ms)  # stable: equal times stay in the order of the files
    return TrainingLog(events, labels, rows, refused)
