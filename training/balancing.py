"""How the tasks' losses become one number. Both ways have the same call, so either fits any sharing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from training.losses import TASKS

__all__ = ["FixedWeights", "UncertaintyWeights", "balancing"]


class FixedWeights(nn.Module):
    """The sum of the losses, each times a weight that stays."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = {task: weights[task] for task in TASKS}

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Losses by task, each () -> one loss ()."""
        return torch.stack([self.weights[task] * losses[task] for task in TASKS]).sum()


class UncertaintyWeights(nn.Module):
    """Each loss over its own learned variance: exp(-s) L + s / 2.

    Source: Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(len(TASKS)))

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Losses by task, each () -> one loss ()."""
        by_task = torch.stack([losses[task] for task in TASKS])
        return (torch.exp(-self.log_variance) * by_task + self.log_variance / 2).sum()


def balancing(kind: Literal["fixed", "uncertainty"], weights: Mapping[str, float]) -> nn.Module:
    """Return the balancing of that name."""
    return FixedWeights(weights) if kind == "fixed" else UncertaintyWeights()
