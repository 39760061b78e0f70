"""Any log that `millrace import` reads, as events in memory: the same mappings, the same checks of every row.

The order is canonical: by event time, then by file in the order they are given, then by row, then by record of the mapping.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from stream_app.codec.decode import EVENT_TYPES
from stream_app.errors import InputFileError, InvalidEventError
from stream_app.events import Event, Label
from stream_app.imports.convert import Converter
from stream_app.imports.importer import mapping_columns
from stream_app.imports.mapping import Mapping as LogMapping
from stream_app.imports.rows import BadRow, open_rows

__all__ = ["Log", "read_log"]

_CHUNK_ROWS: Final = 20_000
_SHOWN_REASONS: Final = 3


@dataclass(frozen=True)
class Log:
    """What files hold.

    Attributes:
        events: in canonical order.
        labels: what is known of them, in order of the files.
        rows: rows read.
        refused: reason -> rows that were refused for it.
    """

    events: list[Event]
    labels: list[Label]
    rows: int
    refused: Counter[str]


def read_log(paths: Sequence[Path], mapping: LogMapping, progress: Callable[[str], None]) -> Log:
    """Read files by a mapping.

    Raises:
        InputFileError: A file is missing, damaged or lacks columns; or not one of its rows is an event.
    """
    log = Log([], [], 0, Counter())
    rows = 0
    for path in paths:
        rows += _read(path, mapping, log, progress)
    if not log.events:
        reasons = "; ".join(f"{reason} ({count:,} rows)" for reason, count in log.refused.most_common(_SHOWN_REASONS))
        raise InputFileError(
            f"{', '.join(map(str, paths))}: none of {rows:,} rows is an event by the mapping {mapping.origin}: "
            f"{reasons or 'it makes none of them'}. Correct the mapping (docs/imports.md)"
        )
    log.events.sort(key=lambda event: event.event_time_ms)  # stable: equal times stay in the order of the files
    return Log(log.events, log.labels, rows, log.refused)


def _read(path: Path, mapping: LogMapping, log: Log, progress: Callable[[str], None]) -> int:
    """Add what one file holds to the log; return its number of rows."""
    decode: dict[str, Callable[[bytes], Any]] = {
        topic: msgspec.json.Decoder(kind).decode for topic, kind in {**EVENT_TYPES, "labels": Label}.items()
    }
    source = open_rows(path, mapping, mapping_columns(mapping))
    convert = Converter(mapping, source.index, path.name.split(".")[0]).convert
    row = 0
    try:
        for chunk in source.chunks(0, _CHUNK_ROWS):
            for cells in chunk:
                row += 1
                if isinstance(cells, BadRow):
                    log.refused[cells.reason] += 1
                    continue
                try:
                    produced = convert(cells, row)
                except InvalidEventError as err:
                    log.refused[str(err)] += 1
                    continue
                for record in produced:
                    found = decode[record.topic](record.value)
                    (log.labels if record.topic == "labels" else log.events).append(found)
            progress(f"read {row:,} rows of {path.name}, {source.done_ratio():.0%}")
    finally:
        source.close()
    return row
