"""A log that a mapping describes, or an event table, as events in memory: read as a replay reads it, every row checked as there.

The order is canonical: by event time, then by file in the order they are given, then by row, then by record of the mapping. A row
that is no event is counted; a file that cannot be read to its end is an error, since nobody means to train on half of a log.
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

__all__ = ["TrainingLog", "read_log"]

_TOLD_ROWS: Final = 20_000  # rows between two words about progress
_SHOWN_REASONS: Final = 3


@dataclass(frozen=True)
class TrainingLog:
    """What files hold.

    Attributes:
        events: in canonical order.
        labels: what is known of them, in order of the files.
        rows: rows read.
        refused: rows that are no event and no label.
    """

    events: list[Event]
    labels: list[Label]
    rows: int
    refused: int


def read_log(paths: Sequence[Path], mapping: LogMapping | None, progress: Callable[[str], None]) -> TrainingLog:
    """Read files.

    Args:
        paths: in order.
        mapping: what their rows are; None: event tables of `millrace sort`.
        progress: told what is wrong, and how far reading is.

    Raises:
        InputFileError: A file is missing, damaged or lacks columns; or not one of its rows is an event.
    """
    problems = LogIssues(whole=True, report=progress)
    events: list[Event] = []
    labels: list[Label] = []
    rows = refused = 0
    for file in log_files(paths, mapping, problems):
        told = 0
        for found in file.events():
            if isinstance(found, Label):
                labels.append(found)
            else:
                events.append(found)
            if file.rows - told >= _TOLD_ROWS:
                told = file.rows
                progress(f"read {told:,} rows of {file.path.name}")
        progress(f"read {file.rows:,} rows of {file.path.name}")
        rows, refused = rows + file.rows, refused + file.refused
    if not events:
        reasons = "; ".join(f"{found['reason']} ({found['count']:,} rows)" for found in problems.summary()[:_SHOWN_REASONS])
        by_mapping = f" by the mapping {mapping.origin}" if mapping is not None else ""
        raise InputFileError(
            f"{', '.join(map(str, paths))}: none of {rows:,} rows is an event{by_mapping}: {reasons or 'there are none'}. "
            "Correct the mapping (docs/imports.md), or name another log"
        )
    events.sort(key=lambda event: event.event_time_ms)  # stable: equal times stay in the order of the files
    return TrainingLog(events, labels, rows, refused)
