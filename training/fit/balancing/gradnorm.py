"""GradNorm: weights that bring the norms of the tasks' gradients together, the slower learners' above the others'.

Source: Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks", ICML 2018.
With G_i the norm of task i's weighed gradient, and r_i its share of its first loss over the mean share, the weights follow the
gradient of sum_i |G_i - mean(G) r_i^alpha|, the target held constant, and are then scaled to sum to T.

The norm is over all shared parameters; the paper takes the last shared layer to save time, which here costs as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from training.fit.balancing.weighing import Weighing

__all__ = ["GradNorm"]

_LEAST_WEIGHT: Final = 1e-3  # a step of the weights must not turn a task off or around


class GradNorm(Weighing):
    """Weights that sum to T; they change with each step."""

    needs_norms = True
    current: Tensor
    first: Tensor

    def __init__(self, names: Sequence[str], alpha: float, rate: float) -> None:
        super().__init__()
        self._names, self._alpha, self._rate = tuple(names), alpha, rate
        self.register_buffer("current", torch.ones(len(names)))  # (T,) weights
        self.register_buffer("first", torch.full((len(names),), torch.nan))  # (T,) losses of the first step with labels

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses by task, each () -> what to add up, each ()."""
        weights = dict(zip(self._names, self.current.clone(), strict=True))
        return {task: weights[task] * loss for task, loss in losses.items()}

    def weights(self) -> dict[str, float]:
        """Return the weights as they are now."""
        return dict(zip(self._names, self.current.tolist(), strict=True))

    def observe(self, losses: Mapping[str, float], norms: Mapping[str, float]) -> None:
        """Move the weights by one step. Tasks without a gradient in this batch keep theirs, but for the common scale."""
        loss = torch.tensor([losses[name] for name in self._names]).to(self.current)
        norm = torch.tensor([norms[name] for name in self._names]).to(self.current)
        here = (norm > 0) & (loss > 0)
        self.first.copy_(torch.where(here & self.first.isnan(), loss, self.first))
        if int(here.sum()) < 2:  # nothing to be brought together
            return
        share = loss[here] / self.first[here]  # (K,) of the first loss
        target = norm[here].mean() * (share / share.mean()) ** self._alpha
        # d|G - target| / dw = sign(G - target) * G / w, for G is proportional to w.
        slope = torch.sign(norm[here] - target) * norm[here] / self.current[here]
        self.current[here] = (self.current[here] - self._rate * slope).clamp(min=_LEAST_WEIGHT)
        self.current.mul_(len(self._names) / self.current.sum())
