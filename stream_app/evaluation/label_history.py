"""Labels with the time at which each became known, so that no evaluation uses a label before its time.

An event may get several labels (a complaint, then a verdict): at each moment the newest known label counts, at the end the last.
Where a log has only labels of fraud, an event without a label counts as honest once it is older than the longest delay of a label
(or a time that the user sets), and only if its kind ever has frauds. Events that are younger when the log ends have no final
label: of the youngest events only frauds are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NEVER_MS: Final = 1 << 62
UNKNOWN: Final = -1


@dataclass(frozen=True, eq=False)
class LabelHistory:
    """Labels of N events in one task.

    Attributes:
        final: (N,) int64, the last value; UNKNOWN without a label, and where the log ends before `honest_from_ms`.
        label_row: (M,) int64, events of the M labels, in order of event, then of time.
        label_ms: (M,) int64, when each became known.
        label_value: (M,) int64.
        honest_from_ms: (N,) int64, from when on no label means 0; NEVER_MS where it never does.
    """

    final: NDArray[np.int64]
    label_row: NDArray[np.int64]
    label_ms: NDArray[np.int64]
    label_value: NDArray[np.int64]
    honest_from_ms: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        time_ms: NDArray[np.int64],
        kind: NDArray[np.integer[Any]],
        labels: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
        *,
        end_ms: int,
        maturity_ms: int | None = None,
    ) -> LabelHistory:
        """Join labels to events.

        Args:
            time_ms: (N,) of the events.
            kind: (N,) codes of events.KINDS.
            labels: (M,) event numbers, (M,) when known, (M,) values.
            end_ms: the newest time of the log, events and labels.
            maturity_ms: age at which no label means 0; None: the longest delay of a label.
        """
        rows, known_ms, values = labels
        order = np.lexsort((known_ms, rows))
        rows, known_ms, values = rows[order], known_ms[order], values[order]
        final = np.full(len(time_ms), UNKNOWN, np.int64)
        honest_from_ms = np.full(len(time_ms), NEVER_MS, np.int64)
        if len(rows) and (values > 0).all():
            delay_ms = int((known_ms - time_ms[rows]).max()) if maturity_ms is None else maturity_ms
            mature = np.isin(kind, np.unique(kind[rows]))
            final[mature], honest_from_ms[mature] = 0, time_ms[mature] + delay_ms
        final[rows] = values  # the last of several wins: numpy assigns in order
        final[(honest_from_ms < NEVER_MS) & (honest_from_ms > end_ms)] = UNKNOWN
        return cls(final, rows, known_ms, values, honest_from_ms)

    def at(self, moment_ms: int) -> NDArray[np.int64]:
        """Return the values (N,) known at a moment: the newest label by then, 0 by age, or UNKNOWN."""
        values = np.where(self.honest_from_ms <= moment_ms, 0, UNKNOWN)
        known = self.label_ms <= moment_ms
        values[self.label_row[known]] = self.label_value[known]
        return values

    def mature_at(self, moment_ms: int) -> NDArray[np.int64]:
        """Return the values (N,) known at a moment of the events that are old enough by then; else UNKNOWN.

        Of younger events only frauds are known, since no label does not yet mean honest.
        """
        values = self.at(moment_ms)
        values[(self.honest_from_ms < NEVER_MS) & (self.honest_from_ms > moment_ms)] = UNKNOWN
        return values

    def first_known_ms(self, value: int) -> NDArray[np.int64]:
        """Return when each event (N,) first had a label of this value; NEVER_MS if it had none."""
        first_ms = np.full(len(self.final), NEVER_MS, np.int64)
        of_value = self.label_value == value
        np.minimum.at(first_ms, self.label_row[of_value], self.label_ms[of_value])
        return first_ms
