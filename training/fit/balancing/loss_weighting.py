"""Weights of the losses of several tasks: fixed, by learned variance, by how fast each loss falls, by the norms of gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

_LEAST_WEIGHT: Final = 1e-3  # a step must not switch off a task or make its weight negative


class LossWeighting(nn.Module):
    """Weights of the losses of T tasks. The optimiser updates its parameters, the class itself its buffers.

    Attributes:
        needs_norms: whether `observe` needs the norm of each task's gradient, which takes a backward pass for each task.
        average: averages over all processes, in place; None with one process.
    """

    needs_norms = False
    average: Callable[[Tensor], Tensor] | None = None

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted loss of each task, each ()."""
        raise NotImplementedError

    def weights(self) -> dict[str, float]:
        """Return the present weights, for reports."""
        raise NotImplementedError

    def observe(self, losses: Mapping[str, float], norms: Mapping[str, float]) -> None:
        """Update from a step: each task's loss, and the norm of its weighted gradient on the shared parameters.

        A task whose norm is 0 had no label in the batch. Norms are empty unless `needs_norms`.
        """

    def epoch_ended(self, means: Mapping[str, float]) -> None:
        """Update from an epoch: each task's mean training loss."""


class FixedWeights(LossWeighting):
    """Each loss times a fixed weight."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self._weights = dict(weights)

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted loss of each task, each ()."""
        return {task: self._weights[task] * loss for task, loss in losses.items()}

    def weights(self) -> dict[str, float]:
        """Return the weights."""
        return dict(self._weights)


class UncertaintyWeights(LossWeighting):
    """Each loss divided by its own learned variance: weights exp(-s), with one parameter s for each task.

    Source: Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics", CVPR
    2018, with s = log(variance): exp(-s) L + s / 2. Both terms are left out for a task without a label in the batch.
    """

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


class AdaptiveWeights(LossWeighting):
    """Weights in a buffer that sum to T; subclasses change them after a step or an epoch."""

    current: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = tuple(names)
        self.register_buffer("current", torch.ones(len(names)))  # (T,) weights

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted loss of each task, each ()."""
        weights = dict(zip(self._names, self.current.clone(), strict=True))
        return {task: weights[task] * loss for task, loss in losses.items()}

    def weights(self) -> dict[str, float]:
        """Return the present weights."""
        return dict(zip(self._names, self.current.tolist(), strict=True))

    def _vector(self, values: Mapping[str, float]) -> Tensor:
        return torch.tensor([values[name] for name in self._names]).to(self.current)


class DynamicWeightAverage(AdaptiveWeights):
    """A loss that fell little in the last epoch weighs more in the next.

    Source: Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, equation 7. Over T tasks, with the
    ratio r_k = L_k(t-1) / L_k(t-2) of an epoch's mean loss to that of the epoch before: T exp(r_k / temperature) over the sum of
    exp(r / temperature). In the first two epochs all weights are 1.
    """

    last: Tensor

    def __init__(self, names: Sequence[str], temperature: float) -> None:
        super().__init__(names)
        self._temperature = temperature
        self.register_buffer("last", torch.full((len(names),), torch.nan))  # (T,) mean losses of the last epoch

    def epoch_ended(self, means: Mapping[str, float]) -> None:
        """Set the next epoch's weights."""
        losses = self._vector(means)
        # Without a loss, or without that of the epoch before, the ratio is 1.
        ratio = torch.nan_to_num(losses / self.last, nan=1.0, posinf=1.0)
        self.current.copy_(len(self._names) * torch.softmax(ratio / self._temperature, dim=0))
        self.last.copy_(losses)


class GradNorm(AdaptiveWeights):
    """Weights that equalise the norms of the tasks' gradients, higher for tasks that learn slowly.

    Source: Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks", ICML 2018.
    With G_i the norm of task i's weighted gradient, and r_i its share of its first loss over the mean share, the weights follow
    the gradient of sum_i |G_i - mean(G) r_i^alpha|, the target held constant, and are then scaled to sum to T.

    The norm is over all shared parameters; the paper takes the last shared layer to save time, which is not cheaper here.
    """

    needs_norms = True
    first: Tensor

    def __init__(self, names: Sequence[str], alpha: float, rate: float) -> None:
        super().__init__(names)
        self._alpha, self._rate = alpha, rate
        self.register_buffer("first", torch.full((len(names),), torch.nan))  # (T,) losses of the first step with labels

    def observe(self, losses: Mapping[str, float], norms: Mapping[str, float]) -> None:
        """Update the weights by one step; without a gradient in this batch a task keeps its weight, up to the common scale."""
        loss, norm = self._vector(losses), self._vector(norms)
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
