"""From events to the tensors of the contract, as they are served: the same `FeatureEngine`, fed in order, on state in memory.

Every row holds what was known of its entities when it came, and nothing else. An event beyond the allowed lateness is not
scored, and neither is one that came a second time: they are no rows.
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

__all__ = ["NEVER_MS", "EventFolder", "fraud_labels"]

NEVER_MS: Final = 1 << 62  # label time of an event that nobody ever complained about
_LATENESS_MS: Final = 86_400_000  # the worker's default (stream_app/config.py)
_CHUNK: Final = 8_192  # events folded at once: what bounds the memory for unpacked state


class EventFolder:
    """Computes features. One for a training set; each log (or shop) begins with empty state."""

    def __init__(self) -> None:
        self._engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=_LATENESS_MS)
        self._identity = Pseudonymizer(b"training")
        self.feature_names = tuple(self._engine.feature_names)
        self.catalogue_hash = self._engine.catalogue_hash
        self.spec = EventInputs(len(self.feature_names))

    def fold(
        self, events: Sequence[Event], wanted: NDArray[np.bool_], progress: Callable[[int], None] = lambda _: None
    ) -> tuple[Arrays, NDArray[np.bool_]]:
        """Return the tensors of those of N events that are `wanted` (N,) and scored, and which those are, (N,).

        Args:
            events: in the order in which they came; all of them count as past of what follows.
            wanted: which of them are to be rows.
            progress: told how many events are done.
        """
        state: dict[str, dict[bytes, bytes]] = {kind.name: {} for kind in self._engine.kinds}
        # Beginning with no rows, so that a log without any event still has tensors.
        nothing = {spec.name: np.zeros((0, *spec.shape), spec.dtype) for spec in self.spec.tensors()}
        parts: dict[str, list[NDArray[Any]]] = {name: [value] for name, value in nothing.items()}
        rows = wanted.copy()
        for at in range(0, len(events), _CHUNK):
            chunk = slice(at, at + _CHUNK)
            folded = self._folded(events[chunk], state)
            rows[chunk] &= ~folded.late & (folded.duplicate_of < 0)
            for name, part in parts.items():
                part.append(getattr(folded, name)[rows[chunk]])
            progress(min(len(events), at + _CHUNK))
        return {name: np.concatenate(part) for name, part in parts.items()}, rows

    def _folded(self, events: Sequence[Event], state: dict[str, dict[bytes, bytes]]) -> FoldResult:
        """Fold the next events into the state of one partition group: per kind, key -> blob; changed in place."""
        engine = self._engine
        columns = engine.columns(events, [0] * len(events), self._identity)
        rows = engine.rows(columns)
        own = {kind: engine.unpack(kind, [state[kind].get(key) for key in of_kind.keys]) for kind, of_kind in rows.items()}
        folded = engine.fold(columns, rows, own, {})
        for kind, of_kind in rows.items():
            state[kind].update(zip(of_kind.keys, engine.pack(kind, own[kind]), strict=True))
        return folded


def fraud_labels(
    truth: NDArray[np.int8],
    known_ms: NDArray[np.int64],
    decided: NDArray[np.bool_],
    trained_at_ms: int,
    judged: NDArray[np.bool_],
) -> NDArray[np.int8]:
    """Return what counts as the truth about fraud when a training begins: (N,) int8, -1 = unknown.

    Args:
        truth: (N,) 1 fraud, 0 honest, -1 nobody will ever say.
        known_ms: (N,) when a fraud became known; NEVER_MS for the honest.
        decided: (N,) whether the event is so old that what is not known of it by now counts as honest.
        trained_at_ms: when the training begins: a fraud that became known later passes for honest, as it did then.
        judged: (N,) rows that are not trained on: they get the whole truth.
    """
    heard = (known_ms <= trained_at_ms) | (judged & (truth == 1))
    return np.where((judged | decided) & (truth != UNKNOWN), heard, UNKNOWN).astype(np.int8)
