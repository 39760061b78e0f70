"""Dynamic weight average: a loss that fell little in the last epoch weighs more in the next.

Source: Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, equation 7. Over T tasks, with the
ratio r_k = L_k(t-1) / L_k(t-2) of an epoch's mean loss to that of the epoch before: T exp(r_k / temperature) over the sum of
exp(r / temperature). In the first two epochs all weights are 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from training.fit.balancing.loss_weighting import LossWeighting


class DynamicWeightAverage(LossWeighting):
    """Weights that sum to T and change after each epoch."""

    current: Tensor
    last: Tensor

    def __init__(self, names: Sequence[str], temperature: float) -> None:
        super().__init__()
        self._names, self._temperature = tuple(names), temperature
        self.register_buffer("current", torch.ones(len(names)))  # (T,) weights
        self.register_buffer("last", torch.full((len(names),), torch.nan))  # (T,) mean losses of the last epoch

    def weigh(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted loss of each task, each ()."""
        weights = dict(zip(self._names, self.current, strict=True))
        return {task: weights[task] * loss for task, loss in losses.items()}

    def weights(self) -> dict[str, float]:
        """Return the weights of this epoch."""
        return dict(zip(self._names, self.current.tolist(), strict=True))

    def epoch_ended(self, means: Mapping[str, float]) -> None:
        """Set the next epoch's weights."""
        losses = torch.tensor([means[name] for name in self._names]).to(self.last)
        ratio = torch.nan_to_num(
            losses / self.last, nan=1.0, posinf=1.0
        )  # without a loss, or without the one before, weights stay
        self.current.copy_(len(self._names) * torch.softmax(ratio / self._temperature, dim=0))
        self.last.copy_(losses)
