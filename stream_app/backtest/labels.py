"""Labels of a log, as they come: kept with where they stand, joined to their events when the log is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_app.backtest.contenders.score_files import id_hashes
from stream_app.events import INTENTS, Label
from stream_app.logs.log_records import LogRecord
from stream_app.logs.log_source import ReplayLog

__all__ = ["LabelIndex", "wrong_value"]

TASKS: Final = ("fraud", "intent", "click", "conversion")

Said = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def wrong_value(label: Label) -> str | None:
    """Say what is wrong with a label's value; None: nothing. Any value of fraud is one: above 0 is fraud, as in training."""
    most = {"fraud": None, "intent": len(INTENTS) - 1}.get(label.task, 1)
    if most is None or (label.value.is_integer() and 0 <= label.value <= most):
        return None
    return f"a value of {label.task} is a whole number from 0 to {most}, this is {label.value:g}"


class LabelIndex:
    """All labels of a log."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._task: list[int] = []
        self._time_ms: list[int] = []
        self._value: list[int] = []
        self._records: list[LogRecord] = []
        self._said: Mapping[str, Said] = {}
        self.unknown = 0

    @property
    def newest_ms(self) -> int:
        """When the newest label became known; 0 without one."""
        return max(self._time_ms, default=0)

    def add(self, label: Label, record: LogRecord) -> None:
        """Take the next label, and the record that it came in."""
        self._ids.append(label.event_id)
        self._task.append(TASKS.index(label.task))
        self._time_ms.append(label.label_time_ms)
        self._value.append(int(label.value > 0) if label.task == "fraud" else round(label.value))
        self._records.append(msgspec.structs.replace(record, key=None, value=None))  # where it stands is enough

    def settle(self, log: ReplayLog, counted: NDArray[np.uint64], everything: NDArray[np.uint64]) -> None:
        """Join the labels to the events that count; one whose event is not in the log is a problem of the log.

        Args:
            log: Is told of such labels, with file and line.
            counted: (N,) hashes of the ids of the events that count.
            everything: (A,) hashes of the ids of all events of the log.

        Raises:
            InputFileError: There is such a label, and the log's problems are strict.
        """
        event = id_hashes(self._ids)
        there = np.isin(event, everything)
        for number in np.flatnonzero(~there).tolist():
            file, line = log.where(self._records[number])
            log.problems.add(file, f"{line} ({self._ids[number]})", "a label of an event that the log does not have")
        self.unknown = int((~there).sum())
        order = np.argsort(counted, kind="stable")
        row = np.zeros(len(event), np.int64)
        found = np.zeros(len(event), np.bool_)
        if len(counted):
            row = order[np.minimum(np.searchsorted(counted, event, sorter=order), len(counted) - 1)]
            found = counted[row] == event
        task, time_ms, value = (np.array(part, np.int64) for part in (self._task, self._time_ms, self._value))
        self._said = {
            name: (row[found & (task == code)], time_ms[found & (task == code)], value[found & (task == code)])
            for code, name in enumerate(TASKS)
        }

    def of(self, task: str) -> Said:
        """Return the task's labels of events that count: event numbers (M,), when known (M,), values (M,)."""
        return self._said[task]
