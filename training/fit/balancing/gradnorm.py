"""GradNorm: weights that equalise the norms of the tasks' gradients, higher for tasks that learn slowly.

Source: Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks", ICML 2018.
With G_i the norm of task i's weighted gradient, and r_i its share of its first loss over the mean share, the weights follow the
gradient of sum_i |G_i - mean(G) r_i^alpha|, the target held constant, and are then scaled to sum to T.

The norm is over all shared parameters; the paper takes the last shared layer to save time, which is not cheaper here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from training.fit.balancing.loss_weighting import LossWeighting

_LEAST_WEIGHT: Final = 1e-3  # a step must not switch off a task or make its weight negative


class GradNorm(LossWeighting):
    """Weights that sum to T and change after each step."""

    needs_norms = True
    current: Tensor
    first: Tensor

    def __init__(self, names: Sequence[str], alpha: float, rate: float) -> None:
        super().__init__()
        self._names, self._alpha, self._rate = tuple(names), alpha, rate
        self.register_buffer("current", torch.ones(len(names)))  # (T,) weights
        self.register_buffer("first", torch.full((len(names),), torch.nan))  # (T,) losses of the first step with labels

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted loss of each task, each ()."""
        weights = dict(zip(self._names, self.current.clone(), strict=True))
        return {task: weights[task] * loss for task, loss in losses.items()}

    def weights(self) -> dict[str, float]:
        """Return the present weights."""
        return dict(zip(self._names, self.current.tolist(), strict=True))

    def observe(self, losses: Mapping[str, float], norms: Mapping[str, float]) -> None:
        """Update the weights by one step; without a gradient in this batch a task keeps its weight, up to the common scale."""
        loss = torch.tensor([losses[name] for name in self._names]).to(self.current)
        norm = torch.tensor([norms[name] for name in self._names]).to(self.current)
        active = (norm > 0) & (loss > 0)
        self.first.copy_(torch.where(active & self.first.isnan(), loss, self.first))
        if int(active.sum()) < 2:  # nothing to equalise
            return
        share = loss[active] / self.first[active]  # (K,) of the first loss
        target = norm[active].mean() * (share / share.mean()) ** self._alpha
        # d|G - target| / dw = sign(G - target) * G / w, for G is proportional to w.
        slope = torch.sign(norm[active] - target) * norm[active] / self.current[active]
        self.current[active] = (self.current[active] - self._rate * slope).clamp(min=_LEAST_WEIGHT)
        self.current.mul_(len(self._names) / self.current.sum())
