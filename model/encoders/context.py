"""Codes of the event itself (kind, scene, platform, hour), and its item.

Shapes: B rows, D embedding width.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

# Rows of the context tables, in the order of contract.CONTEXT_COLUMNS: kind, scene, platform, hour. More than the
# vocabularies have today, because vocabularies grow and a new code must fit into the table.
CONTEXT_ROWS: Final = (16, 32, 16, 24)


class ContextEncoder(nn.Module):
    """A small embedding for each context code, concatenated; one look-up in the stacked tables."""

    first: Tensor
    last: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, width) for rows in CONTEXT_ROWS)
        starts = [sum(CONTEXT_ROWS[:column]) for column in range(len(CONTEXT_ROWS))]
        self.register_buffer("first", torch.tensor(starts, dtype=torch.int32), persistent=False)  # (4,)
        self.register_buffer("last", torch.tensor([n - 1 for n in CONTEXT_ROWS], dtype=torch.int32), persistent=False)

    def forward(self, context: Tensor) -> Tensor:
        """(B, 4) int32 -> (B, 4 * width) float32."""
        codes = torch.minimum(context.clamp(min=0), self.last) + self.first
        below = torch.cat(list(self.tables.parameters()))  # (rows of all, width): a constant of the served graph
        return nn.functional.embedding(codes, below).flatten(1)


class ItemEncoder(nn.Module):
    """Hashed item and category embeddings, shared by the event, the sequence and the item vectors of retrieval.

    They are summed: a new item starts near zero, so its category determines the sum. While training, items are dropped at random
    (`forget`), so that the network learns to use the category alone, and cannot recognise a single session by its items.
    """

    def __init__(self, item_buckets: int, category_buckets: int, width: int, forget: float) -> None:
        super().__init__()
        self.forget = forget
        self.items = nn.Embedding(item_buckets, width, padding_idx=0)
        self.categories = nn.Embedding(category_buckets, width, padding_idx=0)
        for table, deviation in ((self.items, 0.02), (self.categories, 0.1)):
            nn.init.normal_(table.weight, std=deviation)
            with torch.no_grad():
                table.weight[0].zero_()

    def forward(self, item: Tensor, category: Tensor) -> Tensor:
        """(...) int32 and (...) int32 bucket numbers, 0 = none -> (..., D) float32; drops items while training."""
        if self.training and self.forget > 0.0:
            item = item * (torch.rand(item.shape, device=item.device) >= self.forget)
        return self.embed(item, category)

    def embed(self, item: Tensor, category: Tensor) -> Tensor:
        """(...) int32 and (...) int32 bucket numbers, 0 = none -> (..., D) float32."""
        item = item.clamp(0, self.items.num_embeddings - 1)
        category = category.clamp(0, self.categories.num_embeddings - 1)
        embedded: Tensor = self.items(item) + self.categories(category)
        return embedded
