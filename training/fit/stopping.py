"""Early stopping by one number for each epoch, lower is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from model.tasks import Task
from training.evaluation.metrics import higher_is_better

_MIN_FIRST: Final = 1e-6  # smallest divisor: a first value may be zero


@dataclass
class EarlyStopping:
    """Best epoch over all tasks, each relative to its own first epoch, so that no task dominates by the size of its numbers.

    Attributes:
        patience: number of epochs without improvement after which `over` is true.
        first: value of each task in its first epoch with a finite value.
        best: the lowest number so far.
        waited: epochs since the best one.
    """

    patience: int
    first: dict[str, float] = field(default_factory=dict)
    best: float = math.inf
    waited: int = 0

    @property
    def over(self) -> bool:
        """Whether to stop."""
        return self.waited >= self.patience

    def by_losses(self, tasks: Sequence[Task], losses: Mapping[str, float]) -> bool:
        """Return whether this epoch is the best, by the weighted sum of each task's loss relative to its first."""
        self.first = self.first or {name: max(loss, _MIN_FIRST) for name, loss in losses.items()}
        return self._improved(sum(task.weight * losses[task.name] / self.first[task.name] for task in tasks))

    def by_metrics(self, tasks: Sequence[Task], metrics: Mapping[str, Mapping[str, float]]) -> bool:
        """Return whether this epoch is the best, by the weighted sum of the relative gain of each task's metric on its first."""
        values = {task.name: metrics[task.name][task.metric] for task in tasks}
        known = {name: value for name, value in values.items() if math.isfinite(value)}
        self.first = known | self.first  # a metric that is NaN begins with its first finite value
        gain = 0.0
        for task in tasks:
            first = self.first.get(task.name, math.nan)
            change = (values[task.name] - first) / max(abs(first), _MIN_FIRST)
            gain += task.weight * (change if higher_is_better(task.metric) else -change)
        return self._improved(-gain)

    def _improved(self, number: float) -> bool:
        if number < self.best:  # false for NaN: a diverged network is never the best
            self.best, self.waited = number, 0
            return True
        self.waited += 1
        return False
