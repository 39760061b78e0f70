"""Sharing: one trunk's floats in, one vector for each task out.

Every module here has the same call, (B, H) -> (B, T, E) for T tasks, so that one can be exchanged for another without
touching encoders or heads.

Source: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["MixtureOfExperts"]


class MixtureOfExperts(nn.Module):
    """MMoE: all tasks share the experts; each task has a gate of its own that mixes their answers.

    The experts' layers are held as one tensor, so they run as one product instead of one for each expert.
    """

    def __init__(self, width: int, experts: int, hidden: int, out: int, tasks: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.experts, self.hidden, self.tasks = experts, hidden, tasks
        self.first = nn.Linear(width, experts * hidden)
        second = [nn.Linear(hidden, out) for _ in range(experts)]  # for PyTorch's own initialisation
        self.second = nn.Parameter(torch.stack([layer.weight.detach().T for layer in second]))  # (X, hidden, out)
        self.second_bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in second]).unsqueeze(1))
        self.gates = nn.Linear(width, tasks * experts)

    def forward(self, trunk: Tensor) -> Tensor:
        """(B, width) float32 -> (B, tasks, out) float32."""
        hidden = self.drop(torch.relu(self.first(trunk))).reshape(-1, self.experts, self.hidden)  # (B, X, hidden)
        answers = torch.matmul(hidden.transpose(0, 1), self.second) + self.second_bias  # (X, B, out)
        answers = torch.relu(answers).transpose(0, 1)  # (B, X, out)
        gates = torch.softmax(self.gates(trunk).reshape(-1, self.tasks, self.experts), dim=-1)  # (B, T, X)
        return torch.matmul(gates, answers)  # (B, T, out)
