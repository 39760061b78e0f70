"""Logits in, probabilities out; the same in training and in the served graph.

The weight of positive rows is undone here. Training with positives weighted w learns the odds times w, so -log(w) is added
to the logit (King and Zeng, "Logistic Regression in Rare Events Data", Political Analysis 2001).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from model.tasks import Task


def probabilities(
    logits: Mapping[str, Tensor], tasks: Sequence[Task], temperatures: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """Return the output of each task, in the order of `tasks`.

    Args:
        logits: of the network, by task: (B,), (B, C) or (B, D).
        tasks: of the outputs. A task's `given` must be among the logits' tasks and among `tasks`.
        temperatures: by task, > 0; logits are divided by it after the weights are undone (Guo et al., "On Calibration of Modern
            Neural Networks", ICML 2017). 1 by default.

    Returns:
        binary (B,) within 0..1; classes (B, C) that sum to 1; retrieval (B, D), the unchanged vector.
    """
    factors: dict[str, Tensor] = {}
    for task in tasks:
        logit, temperature = unweighted(logits[task.name], task), (temperatures or {}).get(task.name, 1.0)
        logit = logit / temperature if temperature != 1.0 and task.kind != "retrieval" else logit
        if task.kind == "binary":
            factors[task.name] = torch.sigmoid(logit)
        else:
            factors[task.name] = torch.softmax(logit, dim=-1) if task.kind == "classes" else logit
    # A conversion's probability is that of its click times that of a conversion given the click.
    return {task.name: factors[task.name] * factors[task.given] if task.given else factors[task.name] for task in tasks}


def unweighted(logit: Tensor, task: Task) -> Tensor:
    """Return the logit of a training with equally weighted rows; same shape, (B,), (B, C) or (B, D).

    Class weights are not undone: their purpose is to predict rare classes more often than they occur.
    """
    return logit if task.positive_weight == 1.0 else logit - math.log(task.positive_weight)
