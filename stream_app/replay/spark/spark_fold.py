"""Fold events that Spark has sorted by entity and time, with the state of one entity at a time.

An entity's state is dropped after its last event, so memory grows neither with the number of entities nor with the events of one
entity. State older than its kind's TTL expires, as in `MemoryState`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_app.features.columns.event_columns import EventColumns
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldResult, LatenessFlags


class GroupedFold:
    """Folds batches of events sorted by entity; a batch may start and end within an entity.

    Args:
        engine: Any, warm.
        kinds: The kinds to fold. Events are grouped by entities of the first kind; keys of the other kinds start with that
            entity's key.
    """

    def __init__(self, engine: FeatureEngine, kinds: Sequence[str]) -> None:
        self._engine, self._kinds = engine, tuple(kinds)
        self._widths = engine.widths()
        # per kind: key -> row of state, for the last entity of the last batch
        self._state: dict[str, dict[bytes, NDArray[np.int64]]] = {kind: {} for kind in kinds}

    def fold(
        self, columns: EventColumns, commits: NDArray[np.int64] | None = None, flags: LatenessFlags | None = None
    ) -> FoldResult:
        """Read every event's features and update its entities, as `FeatureEngine.fold` does."""
        rows: dict[str, NDArray[np.int32]] = {}
        own: dict[str, NDArray[np.int64]] = {}
        numbers: dict[str, dict[bytes, int]] = {}
        for kind in self._kinds:
            before = self._state[kind]
            number = numbers[kind] = dict(zip(before, range(len(before)), strict=True))
            rows[kind] = np.array([number.setdefault(key, len(number)) if key else -1 for key in columns.keys[kind]], np.int32)
            own[kind] = np.zeros((len(number), self._widths[kind]), np.int64)
            for row, state in enumerate(before.values()):
                own[kind][row] = state
        fold_pass = self._engine.begin(columns, commits, flags)
        self._engine.fold_into(fold_pass, rows, own)
        if len(columns):
            current = columns.keys[self._kinds[0]][-1]
            self._state = {
                kind: {key: own[kind][row].copy() for key, row in numbers[kind].items() if key.startswith(current)}
                for kind in self._kinds
            }
        return fold_pass.result()
