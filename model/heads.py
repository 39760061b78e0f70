"""Heads: one task's shared vector in, its logits out; and the item vectors of retrieval.

`model.probabilities` computes probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.encoders.context import ItemEncoder
from model.encoders.encoded import Encoded


class Tower(nn.Module):
    """Two layers: one task's logits from its shared vector."""

    def __init__(self, width: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, out)

    def forward(self, shared: Tensor) -> Tensor:
        """(B, width) float32 -> (B, out) float32."""
        answer: Tensor = self.out(self.drop(torch.relu(self.hidden(shared))))
        return answer


class ScoreHead(nn.Module):
    """Logits of a binary task or of classes: a tower, plus a linear layer over the encoder's wide features, if it has them.

    The effect of a single feature needs no expert (Cheng et al., "Wide & Deep Learning", 2016). It starts at 0.
    """

    def __init__(self, width: int, wide: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.tower = Tower(width, hidden, out, dropout)
        self.wide = nn.Linear(wide, out, bias=False) if wide else None
        if self.wide is not None:
            nn.init.zeros_(self.wide.weight)

    def forward(self, shared: Tensor, encoded: Encoded) -> Tensor:
        """(B, width) float32 and the encoder's result -> (B,) float32 when `out` is 1, else (B, out)."""
        logits: Tensor = self.tower(shared)  # (B, out)
        if self.wide is not None:
            logits = logits + self.wide(encoded.wide)
        return logits.squeeze(1) if logits.shape[1] == 1 else logits


class UserVectorHead(nn.Module):
    """The user vector of retrieval. Its last coordinate is 1; an item's last coordinate is the item's bias.

    So one inner product adds taste and popularity, and any index of inner products can serve it.
    """

    def __init__(self, width: int, seen: int, hidden: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.taste = Tower(width + seen, hidden, dim - 1, dropout)
        self.near = nn.Linear(seen, dim - 1, bias=False)

    def forward(self, shared: Tensor, encoded: Encoded) -> Tensor:
        """Return (B, D) float32.

        Args:
            shared: (B, width) float32, the task's vector of the sharing.
            encoded: its `seen` (B, seen) float32: the next item is near the seen items, which needs no experts.
        """
        assert encoded.seen is not None
        taste = self.taste(torch.cat([shared, encoded.seen], dim=1)) + self.near(encoded.seen)  # (B, D - 1)
        return torch.cat([taste, torch.ones_like(taste[:, :1])], dim=1)


class PointHead(nn.Module):
    """The user vector of retrieval if `Encoded.seen` is a point among the items: that point and a 1.

    With a temperature above 0 the point's length becomes 1 / temperature.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, shared: Tensor | None, encoded: Encoded) -> Tensor:  # one call for all heads
        """Return (B, D) float32; the sharing is not used."""
        taste = encoded.seen  # (B, D - 1)
        assert taste is not None
        if self.temperature > 0.0:
            taste = nn.functional.normalize(taste, dim=1) * (1.0 / self.temperature)
        return torch.cat([taste, torch.ones_like(taste[:, :1])], dim=1)


class EventItems(nn.Module):
    """Item vectors for events: a linear layer over their embeddings, and a bias for each bucket.

    Not part of the served graph: its outputs are written to items.npz.
    """

    def __init__(self, buckets: int, embedding: int, dim: int) -> None:
        super().__init__()
        self.taste = nn.Linear(embedding, dim - 1)
        self.bias = nn.Embedding(buckets, 1)
        nn.init.zeros_(self.bias.weight)

    def forward(self, items: ItemEncoder, item: Tensor, category: Tensor) -> Tensor:
        """(N,) int32 item buckets and (N,) int32 category buckets -> (N, D) float32; the last coordinate is the bias."""
        taste = self.taste(items.embed(item, category))  # (N, D - 1)
        bias = self.bias(item.clamp(0, self.bias.num_embeddings - 1))  # (N, 1)
        return torch.cat([taste, bias], dim=1)


class SequenceItems(nn.Module):
    """Item vectors for sequences: their embeddings, of length 1 with a temperature, and a bias for each."""

    def __init__(self, items: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.bias = nn.Parameter(torch.zeros(items, 1))

    def forward(self, items: nn.Embedding) -> Tensor:
        """Table of items + 1 rows, row 0 padding -> (items, D) float32; the last coordinate is the bias."""
        taste = items.weight[1:]  # (items, D - 1)
        if self.temperature > 0.0:
            taste = nn.functional.normalize(taste, dim=1)
        return torch.cat([taste, self.bias], dim=1)
