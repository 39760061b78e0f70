"""The fold over events that come entity by entity, each one's in order of time, as Spark sorts them: one state at a time.

Whoever's last event has passed is forgotten, so memory does not grow with the number of entities, nor with how busy one of them
is. An entity that has been silent for longer than its kind lives begins anew, as in `Resident`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_app.features.columns.event_columns import EventColumns
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldResult, LatenessFlags

__all__ = ["GroupedFold"]


class GroupedFold:
    """Folds batches of such events; a batch may begin and end within an entity.

    Args:
        engine: Any, warm.
        kinds: The kinds to fold. The events are grouped by the first one's entity; the others are parts of it (keys that begin
            with its key).
    """

    def __init__(self, engine: FeatureEngine, kinds: Sequence[str]) -> None:
        self._engine, self._kinds = engine, tuple(kinds)
        self._widths = engine.widths()
        # per kind: key -> row of state, of the entity that the last batch ended in
        self._held: dict[str, dict[bytes, NDArray[np.int64]]] = {kind: {} for kind in kinds}

    def fold(
        self, columns: EventColumns, commits: NDArray[np.int64] | None = None, judged: LatenessFlags | None = None
    ) -> FoldResult:
        """Read every event's features and add it to its entities, as `FeatureEngine.fold` does."""
        rows: dict[str, NDArray[np.int32]] = {}
        own: dict[str, NDArray[np.int64]] = {}
        numbers: dict[str, dict[bytes, int]] = {}
        for kind in self._kinds:
            held = self._held[kind]
            number = numbers[kind] = dict(zip(held, range(len(held)), strict=True))
            rows[kind] = np.array([number.setdefault(key, len(number)) if key else -1 for key in columns.keys[kind]], np.int32)
            own[kind] = np.zeros((len(number), self._widths[kind]), np.int64)
            for row, state in enumerate(held.values()):
                own[kind][row] = state
        passing = self._engine.begin(columns, commits, judged)
        self._engine.fold_into(passing, rows, own)
        if len(columns):
            current = columns.keys[self._kinds[0]][-1]
            self._held = {
                kind: {key: own[kind][row].copy() for key, row in numbers[kind].items() if key.startswith(current)}
                for kind in self._kinds
            }
        return passing.result()
