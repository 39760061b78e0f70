"""Input tensors of events, by the same `FeatureEngine` as in serving, in order, on state in memory.

A row holds only the state of its entities before the event. Events beyond the allowed lateness and duplicates are not scored, so
they are no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.inputs import EventInputs
from stream_app.events import Event
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldResult
from stream_app.privacy import Pseudonymizer
from training.data.dataset import UNKNOWN, Arrays

NEVER_MS: Final = 1 << 62  # label time of an event without complaint
_LATENESS_MS: Final = 86_400_000  # the worker's default (stream_app/config.py)
_CHUNK: Final = 8_192  # events folded at once; bounds the memory for unpacked state


class EventFeaturizer:
    """Computes features; one instance for a training set. Each log (or shop) starts with empty state."""

    def __init__(self) -> None:
        self._engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=_LATENESS_MS)
        self._pseudonymizer = Pseudonymizer(b"training")
        self.feature_names = tuple(self._engine.feature_names)
        self.catalogue_hash = self._engine.catalogue_hash
        self.spec = EventInputs(len(self.feature_names))

    def fold(
        self, events: Sequence[Event], is_row: NDArray[np.bool_], progress: Callable[[int], None] = lambda _: None
    ) -> tuple[Arrays, NDArray[np.bool_]]:
        """Return the tensors of the rows among N events, and a mask (N,) of these rows.

        Args:
            events: in order of arrival; all of them update the state.
            is_row: (N,) events that become rows if they are scored.
            progress: receives the number of events done.
        """
        state: dict[str, dict[bytes, bytes]] = {kind.name: {} for kind in self._engine.kinds}
        # Starts with empty arrays, so that a log without events has tensors.
        empty = {spec.name: np.zeros((0, *spec.shape), spec.dtype) for spec in self.spec.tensors()}
        parts: dict[str, list[NDArray[Any]]] = {name: [value] for name, value in empty.items()}
        rows = is_row.copy()
        for at in range(0, len(events), _CHUNK):
            chunk = slice(at, at + _CHUNK)
            folded = self._folded(events[chunk], state)
            rows[chunk] &= ~folded.late & (folded.duplicate_of < 0)
            for name, part in parts.items():
                part.append(getattr(folded, name)[rows[chunk]])
            progress(min(len(events), at + _CHUNK))
        return {name: np.concatenate(part) for name, part in parts.items()}, rows

    def _folded(self, events: Sequence[Event], state: dict[str, dict[bytes, bytes]]) -> FoldResult:
        """Fold events into the state of one partition group, kind -> key -> blob, in place."""
        engine = self._engine
        columns = engine.columns(events, [0] * len(events), self._pseudonymizer)
        rows = engine.rows(columns)
        blocks = {kind: engine.unpack(kind, [state[kind].get(key) for key in of_kind.keys]) for kind, of_kind in rows.items()}
        folded = engine.fold(columns, rows, blocks, {})
        for kind, of_kind in rows.items():
            state[kind].update(zip(of_kind.keys, engine.pack(kind, blocks[kind]), strict=True))
        return folded


def fraud_labels(
    truth: NDArray[np.int8],
    known_ms: NDArray[np.int64],
    mature: NDArray[np.bool_],
    trained_at_ms: int,
    not_trained: NDArray[np.bool_],
) -> NDArray[np.int8]:
    """Return the fraud labels that are known when a training begins: (N,) int8, -1 = unknown.

    Args:
        truth: (N,) 1 fraud, 0 honest, -1 never known.
        known_ms: (N,) when a fraud became known; NEVER_MS for honest events.
        mature: (N,) whether the event is old enough to count as honest without a complaint.
        trained_at_ms: start of the training; a fraud that became known later counts as honest, as it did then.
        not_trained: (N,) rows outside of the training, which get the final truth.
    """
    fraud = (known_ms <= trained_at_ms) | (not_trained & (truth == 1))
    return np.where((not_trained | mature) & (truth != UNKNOWN), fraud, UNKNOWN).astype(np.int8)
