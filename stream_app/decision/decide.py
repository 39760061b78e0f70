"""Decides which events are alerts, and why.

The reasons of an alert are the features furthest from their usual value: |value - median| / interquartile range over the training
set of the model that scored the row (its manifest holds both), largest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from stream_app.decision.rules import RuleSet
from stream_app.events import Reason
from stream_app.ranked import ModelNorms, RankedBatch

_REASONS: Final = 5  # as many as fit on a line of an alert list


@dataclass(frozen=True, slots=True)
class Decisions:
    """For B events: `alert` (B,) bool, and for each alerted row its rules and reasons."""

    alert: npt.NDArray[np.bool_]
    rules: dict[int, list[str]]
    reasons: dict[int, list[Reason]]


class Decider:
    """Applies the fraud threshold of each row's model, and the rules.

    Args:
        rules: Compiled rules.
        feature_names: In catalogue order.
    """

    def __init__(self, *, rules: RuleSet, feature_names: tuple[str, ...]) -> None:
        self._rules = rules
        self._names = feature_names

    def decide(self, ranked: RankedBatch, dense: npt.NDArray[np.float32], kinds: npt.NDArray[np.int32]) -> Decisions:
        """Decide for B scored events from features (B, F) and kinds (B,)."""
        fired = self._rules.fired(dense, kinds)
        alert = (ranked.fraud >= ranked.thresholds()) | fired.any(axis=1)
        rows = np.flatnonzero(alert).tolist()
        return Decisions(
            alert,
            {row: [name for name, hit in zip(self._rules.names, fired[row], strict=True) if hit] for row in rows},
            {row: reasons_of(dense[row], ranked.norms(row), self._names) for row in rows},
        )


def reasons_of(features: npt.NDArray[np.float32], norms: ModelNorms, names: tuple[str, ...]) -> list[Reason]:
    """Return the most unusual features of one event; `features` (F,) in order of `names`, the furthest from usual first."""
    distance = np.abs(features - norms.medians) / norms.scales
    order = np.argsort(-distance, kind="stable")[:_REASONS]
    return [
        Reason(names[i], round(float(features[i]), 4), round(float(norms.medians[i]), 4))
        for i in order.tolist()
        if distance[i] > 0
    ]
