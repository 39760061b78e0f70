"""Heads: one task's shared vector in, its logits out. Probabilities are made once, at the end of the serving graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Tower", "UserVectorHead"]


class Tower(nn.Module):
    """Two layers: one task's logits from its shared vector."""

    def __init__(self, width: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, out)

    def forward(self, shared: Tensor) -> Tensor:
        """(B, width) float32 -> (B, out) float32 logits; (B,) when out is 1."""
        logits: Tensor = self.out(self.drop(torch.relu(self.hidden(shared))))
        return logits.squeeze(1) if self.out.out_features == 1 else logits


class UserVectorHead(nn.Module):
    """The user's side of retrieval. Its last coordinate is 1, where an item's vector holds the item's own bias.

    So one inner product gives taste and popularity together, and any index of inner products can serve it.
    """

    def __init__(self, width: int, seen: int, hidden: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.taste = Tower(width + seen, hidden, dim - 1, dropout)
        self.near = nn.Linear(seen, dim - 1, bias=False)

    def forward(self, shared: Tensor, seen: Tensor) -> Tensor:
        """Answer (B, dim) float32.

        Args:
            shared: (B, width) float32, the task's answer of the mixture.
            seen: (B, seen) float32, the event's and the sequence's encodings: what comes next is near to what was seen, and
                that needs no detour over the experts.
        """
        taste = self.taste(torch.cat([shared, seen], dim=1)) + self.near(seen)  # (B, dim - 1)
        return torch.cat([taste, torch.ones_like(taste[:, :1])], dim=1)
