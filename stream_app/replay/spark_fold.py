"""The fold over events that come entity by entity, each one's in order of time, as Spark sorts them: one state at a time.

Whoever's last event has passed is forgotten, so memory does not grow with the number of entities, nor with how busy one of them
is. An entity that has been silent for longer than its kind lives begins anew, as in `Resident`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_app.features.columns import EntityRows, EventColumns
from stream_app.features.engine import FeatureEngine
from stream_app.features.folded import FoldResult, Judged

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
        self._ttl_ms = {kind.name: kind.ttl_ms for kind in engine.kinds}
        # per kind: key -> row of state and time of the last event, of the entity that the last batch ended in
        self._held: dict[str, dict[bytes, tuple[NDArray[np.int64], int]]] = {kind: {} for kind in kinds}

    def fold(self, columns: EventColumns, commits: NDArray[np.int64] | None = None, judged: Judged | None = None) -> FoldResult:
        """Read every event's features and add it to its entities, as `FeatureEngine.fold` does."""
        times = columns.time_ms.tolist()
        rows: dict[str, EntityRows] = {}
        own: dict[str, NDArray[np.int64]] = {}
        last: dict[str, dict[bytes, tuple[int, int]]] = {}
        for kind in self._kinds:
            held = self._held[kind]
            last[kind] = {key: (row, time_ms) for row, (key, (_, time_ms)) in enumerate(held.items())}
            number, count = _numbered(columns.keys[kind], times, last[kind], self._ttl_ms[kind])
            own[kind] = np.zeros((count, self._widths[kind]), np.int64)
            for row, (state, _) in enumerate(held.values()):
                own[kind][row] = state
            rows[kind] = EntityRows(np.zeros(count, np.int32), [b""] * count, number)
        folded = self._engine.fold(columns, rows, own, {}, commits, judged)
        if times:
            current = columns.keys[self._kinds[0]][-1]
            self._held = {
                kind: {key: (own[kind][row].copy(), at) for key, (row, at) in last[kind].items() if key.startswith(current)}
                for kind in self._kinds
            }
        return folded


def _numbered(
    keys: Sequence[bytes], times: Sequence[int], last: dict[bytes, tuple[int, int]], ttl_ms: int
) -> tuple[NDArray[np.int32], int]:
    """Give every event's entity a row, a new one after a silence of more than `ttl_ms`; -1 for b"".

    `last` holds the row and the newest time of each entity and is kept up to date.
    """
    count, numbers = len(last), []
    for key, time_ms in zip(keys, times, strict=True):
        if not key:
            numbers.append(-1)
            continue
        row, before_ms = last.get(key, (-1, 0))
        if row < 0 or time_ms - before_ms > ttl_ms:
            row, count = count, count + 1
        last[key] = (row, time_ms)
        numbers.append(row)
    return np.array(numbers, np.int32), count
