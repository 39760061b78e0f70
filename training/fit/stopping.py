"""When to stop: after each epoch one number, better when lower; the best epoch's weights are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from model.tasks import Task
from training.evaluation.metrics import higher_is_better

__all__ = ["EarlyStopping"]

_LEAST: Final = 1e-6  # of a first value, which others are divided by


@dataclass
class EarlyStopping:
    """Each task against its own first epoch: else the one with the largest numbers would choose alone.

    Attributes:
        patience: epochs without a better one, after which `over` is true.
        first: each task's value of its first epoch that had one.
        best: the lowest number.
        waited: epochs since then.
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
        """Tell whether this epoch is the best, by the weighed sum of each task's loss over its first one."""
        self.first = self.first or {name: max(loss, _LEAST) for name, loss in losses.items()}
        return self._better(sum(task.weight * losses[task.name] / self.first[task.name] for task in tasks))

    def by_metrics(self, tasks: Sequence[Task], metrics: Mapping[str, Mapping[str, float]]) -> bool:
        """Tell whether this epoch is the best, by the weighed sum of how much each task's own metric gained on its first."""
        values = {task.name: metrics[task.name][task.metric] for task in tasks}
        known = {name: value for name, value in values.items() if math.isfinite(value)}
        self.first = known | self.first  # a metric that is no number yet begins with the first that is one
        gained = 0.0
        for task in tasks:
            first = self.first.get(task.name, math.nan)
            change = (values[task.name] - first) / max(abs(first), _LEAST)
            gained += task.weight * (change if higher_is_better(task.metric) else -change)
        return self._better(-gained)

    def _better(self, number: float) -> bool:
        if number < self.best:  # not so for NaN: a network that has diverged is never the best
            self.best, self.waited = number, 0
            return True
        self.waited += 1
        return False
