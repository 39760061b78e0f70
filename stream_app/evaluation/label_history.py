"""What became known of events, and when: nobody may use a label before its time.

A label has the time at which it became known. An event may get several (a complaint, then a verdict): at each moment the newest
one by then counts, at the end the last. Where the log has only frauds, silence means honest: once an event is older than the
longest delay (or a time that the user names), and only for kinds of events that ever are frauds. An event that is younger when
the log ends is never judged, whatever was said of it: of the youngest events only frauds are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEVER_MS", "UNKNOWN", "LabelHistory"]

NEVER_MS: Final = 1 << 62
UNKNOWN: Final = -1


@dataclass(frozen=True, eq=False)
class LabelHistory:
    """What a log says of N events in one task.

    Attributes:
        final: (N,) int64, the value in the end; UNKNOWN where nothing is ever said, and where the log ends before silence counts.
        said_row: (M,) int64, events of the M labels, in order of event, then of time.
        said_ms: (M,) int64, when each became known.
        said: (M,) int64, its value.
        silent_ms: (N,) int64, from when on silence means 0; NEVER_MS where it never does.
    """

    final: NDArray[np.int64]
    said_row: NDArray[np.int64]
    said_ms: NDArray[np.int64]
    said: NDArray[np.int64]
    silent_ms: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        time_ms: NDArray[np.int64],
        kind: NDArray[np.integer[Any]],
        labels: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
        *,
        silence: bool,
        end_ms: int,
        maturity_ms: int | None = None,
    ) -> LabelHistory:
        """Join labels to events.

        Args:
            time_ms: (N,) of the events.
            kind: (N,) codes of events.KINDS.
            labels: (M,) event numbers, (M,) when known, (M,) values.
            silence: whether an event without a label may count as 0; it does where every label is above 0.
            end_ms: the newest time of the log, labels among it.
            maturity_ms: after so long; None: the longest delay of a label.
        """
        rows, known_ms, values = labels
        order = np.lexsort((known_ms, rows))
        rows, known_ms, values = rows[order], known_ms[order], values[order]
        final = np.full(len(time_ms), UNKNOWN, np.int64)
        silent_ms = np.full(len(time_ms), NEVER_MS, np.int64)
        if silence and len(rows) and (values > 0).all():
            delay_ms = int((known_ms - time_ms[rows]).max()) if maturity_ms is None else maturity_ms
            asked = np.isin(kind, np.unique(kind[rows]))
            final[asked], silent_ms[asked] = 0, time_ms[asked] + delay_ms
        final[rows] = values  # of several the last stands: numpy assigns in order
        final[(silent_ms < NEVER_MS) & (silent_ms > end_ms)] = UNKNOWN
        return cls(final, rows, known_ms, values, silent_ms)

    def at(self, moment_ms: int) -> NDArray[np.int64]:
        """Return what is known at a moment, (N,): the newest label by then, 0 by silence, or UNKNOWN."""
        found = np.where(self.silent_ms <= moment_ms, 0, UNKNOWN)
        heard = self.said_ms <= moment_ms
        found[self.said_row[heard]] = self.said[heard]
        return found

    def judged_at(self, moment_ms: int) -> NDArray[np.int64]:
        """Return what is known at a moment of the events that can be judged by then, (N,); else UNKNOWN.

        An event whose silence may count, but not yet, cannot: of the events of its age only frauds are known, no honest ones.
        """
        found = self.at(moment_ms)
        found[(self.silent_ms < NEVER_MS) & (self.silent_ms > moment_ms)] = UNKNOWN
        return found

    def first_known_ms(self, value: int) -> NDArray[np.int64]:
        """Return when each event was first said to have this value, (N,); NEVER_MS where it was not."""
        found = np.full(len(self.final), NEVER_MS, np.int64)
        of_value = self.said == value
        np.minimum.at(found, self.said_row[of_value], self.said_ms[of_value])
        return found
