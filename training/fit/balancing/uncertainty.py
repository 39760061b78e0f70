"""Each loss divided by its own learned variance.

Source: Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics", CVPR
2018, with s = log(variance): exp(-s) L + s / 2. Both terms are left out for a task without a label
in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from training.fit.balancing.loss_weighting import LossWeighting


class UncertaintyWeights(LossWeighting):
    """Weights exp(-s), with one parameter s for each task."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = tuple(names)
        self.log_variance = nn.Parameter(torch.zeros(len(names)))

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss of each task to add up, each ()."""
        present = (torch.stack([losses[task].detach() for task in self._names]) != 0).float()  # (T,) a loss without labels is 0
        present = (present if self.average is None else self.average(present)) > 0  # in any process
        spread, half = dict(zip(self._names, self.log_variance, strict=True)), self.log_variance * present / 2
        halves = dict(zip(self._names, half, strict=True))
        return {task: torch.exp(-spread[task]) * loss + halves[task] for task, loss in losses.items()}

    def weights(self) -> dict[str, float]:
        """Return exp(-s) of each task."""
        return dict(zip(self._names, torch.exp(-self.log_variance.detach()).tolist(), strict=True))
