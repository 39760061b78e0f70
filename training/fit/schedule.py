"""The optimiser, and its learning rate at each step.

Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, and "SGDR: Stochastic Gradient Descent with
Warm Restarts", ICLR 2017 (one cosine, no restart).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from training.config import TrainingOptions


def learning_rate(step: int, steps: int, warm_up: float) -> float:
    """Return the rate at a step as a share of the highest: linear over the share `warm_up` of all steps, then a cosine."""
    warm = max(1, int(steps * warm_up))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def optimiser_for(network: nn.Module, balance_parameters: Sequence[nn.Parameter], options: TrainingOptions) -> torch.optim.AdamW:
    """Return the optimiser of a network's weights and of the balance's parameters, which have no weight decay."""
    groups: list[dict[str, Any]] = [{"params": list(network.parameters()), "weight_decay": options.weight_decay}]
    if balance_parameters:
        groups.append({"params": list(balance_parameters), "weight_decay": 0.0})  # their own terms in the loss bound them
    return torch.optim.AdamW(groups, lr=options.learning_rate, fused=True)
