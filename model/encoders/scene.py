"""The scene of a row (a tenant, a domain, a channel), for inputs that have only its number."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def nearest_code(codes: Tensor, rows: int) -> Tensor:
    """(...) int32 -> (...) int64 within 0..rows-1.

    Widened first, so that the clipped tensor is not an input of the graph: if two branches clip the same input, onnxscript 0.7
    gives the bounds of both one name, and the model is not valid.
    """
    return codes.to(torch.int64).clamp(0, rows - 1)


class SceneEncoder(nn.Module):
    """An embedding of the scene."""

    def __init__(self, scenes: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(scenes, width)
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, scene: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) int32 -> (B, S) float32 and (B,) int64 within 0..scenes-1."""
        code = nearest_code(scene, self.table.num_embeddings)
        return self.table(code), code
