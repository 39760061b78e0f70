"""PCGrad: of two conflicting gradients, each loses its component along the other.

Source: Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, algorithm 1: task by task, against the others'
original gradients in a random order; then the sum.
"""

from __future__ import annotations

import torch
from torch import Tensor


def project_conflicts(gradients: Tensor) -> Tensor:
    """(T, P) float32, one gradient a row -> (P,) float32. The order is drawn from torch's own generator.

    Every projection stays in the span of the rows, so it is computed on (T, T) coefficients with the products of the rows; the P
    columns are read twice, whatever the number of tasks.
    """
    tasks = len(gradients)
    products = gradients @ gradients.T  # (T, T)
    shares = torch.eye(tasks, dtype=gradients.dtype, device=gradients.device)  # row i: coefficients of task i's gradient
    for task in range(tasks):
        for other in torch.randperm(tasks).tolist():
            along = shares[task] @ products[:, other]
            if other != task and along < 0:
                shares[task, other] -= along / products[other, other]
    return shares.sum(dim=0) @ gradients
