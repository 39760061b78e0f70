"""Weights of losses: what every way of weighing can be asked, and the one whose weights stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

__all__ = ["FixedWeights", "Weighing"]


class Weighing(nn.Module):
    """Weights of T tasks' losses. What it learns is in its parameters (by the optimiser) and buffers (by itself).

    Attributes:
        needs_norms: whether `observe` wants the norm of each task's gradient, which costs a backward pass for each task.
        average: the mean over all processes, in place; None where there is one.
    """

    needs_norms = False
    average: Callable[[Tensor], Tensor] | None = None

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses by task, each () -> what to add up, each ()."""
        raise NotImplementedError

    def weights(self) -> dict[str, float]:
        """Return the weights as they are now, for a person."""
        raise NotImplementedError

    def observe(self, losses: Mapping[str, float], norms: Mapping[str, float]) -> None:
        """Learn from a step: each task's loss, and the norm of its weighed gradient on the shared parameters.

        A task whose norm is 0 had no label in the batch. Norms are empty unless `needs_norms`.
        """

    def epoch_ended(self, means: Mapping[str, float]) -> None:
        """Learn from an epoch: each task's mean training loss."""


class FixedWeights(Weighing):
    """Each loss times a weight that stays."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self._weights = dict(weights)

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses by task, each () -> what to add up, each ()."""
        return {task: self._weights[task] * loss for task, loss in losses.items()}

    def weights(self) -> dict[str, float]:
        """Return the weights."""
        return dict(self._weights)
