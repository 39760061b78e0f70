"""Gradients of single tasks: matrix layout, cosines, projection of conflicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn


def task_gradients(losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> dict[str, tuple[Tensor | None, ...]]:
    """Return each task's gradient on each of `parameters`; None where its loss does not reach. The graph is freed."""
    last = len(losses) - 1
    return {
        task: torch.autograd.grad(loss, parameters, retain_graph=number < last, allow_unused=True)
        for number, (task, loss) in enumerate(losses.items())
    }


def flat(gradients: Sequence[Tensor | None], parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return (P,) float32: the gradients one after another, zeros for None."""
    parts = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
    return torch.cat([part.reshape(-1) for part in parts]) if parts else torch.zeros(0)


def split_flat(values: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return the parts of `values` (P,), each in the shape of its parameter."""
    parts = torch.split(values, [parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]


def cosines(gradients: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return the cosine of each pair of rows of `gradients` (T, P), as "a|b"; pairs with a zero row are left out."""
    norms = gradients.norm(dim=1)
    products = (gradients @ gradients.T).tolist()
    size = norms.tolist()
    return {
        f"{names[a]}|{names[b]}": products[a][b] / (size[a] * size[b])
        for a, b in combinations(range(len(names)), 2)
        if size[a] > 0 and size[b] > 0
    }


def project_conflicts(gradients: Tensor) -> Tensor:
    """PCGrad: of two conflicting gradients, each loses its component along the other; (T, P) float32 -> their sum (P,).

    Source: Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, algorithm 1: task by task, against the original
    gradients of all other tasks in a random order, which is drawn from torch's own generator.

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
