"""Any log that a mapping describes, as events in memory: read as a replay reads it, so with the same checks of every row.

The order is canonical: by event time, then by file in the order they are given, then by row, then by record of the mapping. A row
that is no event is counted; a file that cannot be read to its end is an error, since nobody means to train on half of a log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from stream_app.codec.decode import Decoder
from stream_app.errors import InputFileError, InvalidEventError
from stream_app.events import Event, Label
from stream_app.imports.mapping import Mapping as LogMapping
from stream_app.replay.files import LogFile
from stream_app.replay.problems import Problems
from stream_app.replay.records import LABELS

__all__ = ["Log", "read_log"]

_TOLD_ROWS: Final = 20_000  # rows between two words about progress
_SHOWN_REASONS: Final = 3


@dataclass(frozen=True)
class Log:
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


def read_log(paths: Sequence[Path], mapping: LogMapping, progress: Callable[[str], None]) -> Log:
    """Read files by a mapping.

    Raises:
        InputFileError: A file is missing, damaged or lacks columns; or not one of its rows is an event.
    """
    problems = Problems(whole=True, tell=progress)
    events: list[Event] = []
    labels: list[Label] = []
    rows = refused = 0
    for number, path in enumerate(paths):
        file = LogFile(path, number, mapping, problems)
        refused += _read(file, problems, (events, labels), progress) + file.refused
        rows += file.rows
    if not events:
        reasons = "; ".join(f"{found['reason']} ({found['count']:,} rows)" for found in problems.summary()[:_SHOWN_REASONS])
        raise InputFileError(
            f"{', '.join(map(str, paths))}: none of {rows:,} rows is an event by the mapping {mapping.origin}: "
            f"{reasons or 'it makes none of them'}. Correct the mapping (docs/imports.md)"
        )
    events.sort(key=lambda event: event.event_time_ms)  # stable: equal times stay in the order of the files
    return Log(events, labels, rows, refused)


def _read(file: LogFile, problems: Problems, into: tuple[list[Event], list[Label]], progress: Callable[[str], None]) -> int:
    """Add what one file holds to events and labels; return how many of its records the worker would refuse."""
    events, labels = into
    decode, decode_label = Decoder(future_skew_ms=0).decode, msgspec.json.Decoder(Label).decode
    refused, told = 0, 0
    for record in file.records():
        if record.topic == LABELS:
            labels.append(decode_label(record.value or b""))
            continue
        try:
            events.append(decode(record.topic, record.key, record.value, record.timestamp))
        except InvalidEventError as err:
            problems.add(str(file.path), file.line_of(record), str(err))
            refused += 1
        if file.rows - told >= _TOLD_ROWS:
            told = file.rows
            progress(f"read {told:,} rows of {file.path.name}")
    progress(f"read {file.rows:,} rows of {file.path.name}")
    return refused
