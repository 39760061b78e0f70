"""Weights of losses: the base class of all weightings, and fixed weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn


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
