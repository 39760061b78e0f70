"""From probabilities and rules to decisions: which events are alerts, and why.

The reasons of an alert are the features that lie furthest from what is usual: |value - median| / interquartile range over the
model's training set (the manifest carries both), largest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from stream_app.decision.rules import RuleSet
from stream_app.events import Reason

__all__ = ["Decider", "Decisions"]

_REASONS: Final = 5  # what fits on a line of an alert list


@dataclass(frozen=True, slots=True)
class Decisions:
    """For B events: `alert` (B,) bool, and for each alerted row its rules and reasons."""

    alert: npt.NDArray[np.bool_]
    rules: dict[int, list[str]]
    reasons: dict[int, list[Reason]]


class Decider:
    """Applies the fraud threshold and the rules.

    Args:
        threshold: Probability in [0, 1] from which an event is an alert.
        rules: Compiled rules.
        medians: (F,) usual value of each feature.
        scales: (F,) interquartile range of each feature, > 0.
        feature_names: In catalogue order.
    """

    def __init__(
        self,
        *,
        threshold: float,
        rules: RuleSet,
        medians: npt.NDArray[np.float32],
        scales: npt.NDArray[np.float32],
        feature_names: tuple[str, ...],
    ) -> None:
        self.threshold = threshold
        self._rules = rules
        self._medians = medians
        self._scales = scales
        self._names = feature_names

    def decide(self, fraud: npt.NDArray[np.float32], dense: npt.NDArray[np.float32], kinds: npt.NDArray[np.int32]) -> Decisions:
        """Decide for B events from fraud probabilities (B,), features (B, F) and kinds (B,)."""
        fired = self._rules.fired(dense, kinds)
        alert = (fraud >= self.threshold) | fired.any(axis=1)
        rows = np.flatnonzero(alert).tolist()
        return Decisions(
            alert,
            {row: [name for name, hit in zip(self._rules.names, fired[row], strict=True) if hit] for row in rows},
            {row: self._reasons(dense[row]) for row in rows},
        )

    def _reasons(self, features: npt.NDArray[np.float32]) -> list[Reason]:
        distance = np.abs(features - self._medians) / self._scales
        order = np.argsort(-distance, kind="stable")[:_REASONS]
        return [
            Reason(self._names[i], round(float(features[i]), 4), round(float(self._medians[i]), 4))
            for i in order.tolist()
            if distance[i] > 0
        ]
