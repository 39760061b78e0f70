"""Labels of a log: collected with their positions during the pass, joined to their events at its end."""

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

TASKS: Final = ("fraud", "intent", "click", "conversion")

TaskLabels = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # events, times known, values


def wrong_value(label: Label) -> str | None:
    """Return what is wrong with a label's value, or None. Any value of fraud is valid: above 0 is fraud, as in training."""
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
        self._by_task: Mapping[str, TaskLabels] = {}
        self.unknown = 0

    @property
    def newest_ms(self) -> int:
        """When the newest label became known; 0 without one."""
        return max(self._time_ms, default=0)

    def add(self, label: Label, record: LogRecord) -> None:
        """Add the next label and its record."""
        self._ids.append(label.event_id)
        self._task.append(TASKS.index(label.task))
        self._time_ms.append(label.label_time_ms)
        self._value.append(int(label.value > 0) if label.task == "fraud" else round(label.value))
        self._records.append(msgspec.structs.replace(record, key=None, value=None))  # only its position is needed

    def settle(self, log: ReplayLog, scored: NDArray[np.uint64], everything: NDArray[np.uint64]) -> None:
        """Join the labels to the scored events; a label without an event in the log is an issue of the log.

        `scored` (N,) and `everything` (A,) are hashes of the ids of the scored events and of all events of the log.

        Raises:
            InputFileError: There is such a label, and the issues of the log are strict.
        """
        event = id_hashes(self._ids)
        known = np.isin(event, everything)
        for number in np.flatnonzero(~known).tolist():
            file, line = log.where(self._records[number])
            log.problems.add(file, f"{line} ({self._ids[number]})", "a label of an event that the log does not have")
        self.unknown = int((~known).sum())
        order = np.argsort(scored, kind="stable")
        row = np.zeros(len(event), np.int64)
        has_row = np.zeros(len(event), np.bool_)
        if len(scored):
            row = order[np.minimum(np.searchsorted(scored, event, sorter=order), len(scored) - 1)]
            has_row = scored[row] == event
        task, time_ms, value = (np.array(part, np.int64) for part in (self._task, self._time_ms, self._value))
        self._by_task = {
            name: (row[own], time_ms[own], value[own]) for code, name in enumerate(TASKS) for own in [has_row & (task == code)]
        }

    def of(self, task: str) -> TaskLabels:
        """Return the task's labels of scored events: event numbers (M,), times known (M,), values (M,)."""
        return self._by_task[task]
