"""Segments of events: by a feature cut at edges, or by a field of the event."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.backtest.config import Segment
from stream_app.errors import ConfigError
from stream_app.events import Event
from stream_app.features.engine import FeatureEngine

_MAX_NAMES: Final = 200  # values of a field: a field with more holds ids
_OTHER: Final = "(others)"


class SegmentAssigner:
    """Assigns events to the parts of one segment; `names` are the parts, by code.

    Raises:
        ConfigError: No such feature.
    """

    def __init__(self, segment: Segment, engine: FeatureEngine) -> None:
        self._segment = segment
        self.names: list[str] = []
        self._codes: dict[str, int] = {}
        if segment.feature:
            if segment.feature not in engine.feature_names:
                raise ConfigError(f"segments: no feature is named {segment.feature!r}; `millrace features list` shows them all")
            self._column = engine.feature_names.index(segment.feature)
            self._edges = np.asarray(segment.edges, np.float64)
            cuts = [f"{edge:g}" for edge in segment.edges]
            self.names = (
                [f"below {cuts[0]}", *(f"{low} to {high}" for low, high in pairwise(cuts)), f"from {cuts[-1]}"]
                if cuts
                else ["all"]
            )
            self.names.append("unknown")

    def codes(self, events: Sequence[Event], dense: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the part (B,) of each of B events, whose features are `dense` (B, F)."""
        if self._segment.feature:
            value = dense[:, self._column].astype(np.float64)
            part = np.searchsorted(self._edges, value, side="right")
            return np.where(np.isnan(value), len(self.names) - 1, part)
        return np.array([self._code(str(getattr(event, self._segment.field, ""))) for event in events], np.int64)

    def _code(self, name: str) -> int:
        name = name if name in self._codes or len(self._codes) < _MAX_NAMES else _OTHER
        code = self._codes.setdefault(name, len(self._codes))
        if code == len(self.names):
            self.names.append(name or "(none)")
        return code
