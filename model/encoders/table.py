"""A row of a table: numbers, category codes, and the scene it comes from.

dense (B, F) ------- scaled (F), within quantile bins (F * K), missing (F) ---.
categories (B, C) -- embeddings (C * D) --------------------------------------+-- trunk = wide
scene (B,) --------- embedding (S) -------------------------------------------'
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.encoders.dense import NumberEncoder
from model.encoders.encoded import Encoded, Sizes
from model.encoders.scene import SceneEncoder
from model.inputs import TableInputs
from model.presets import NetworkShape


class CategoryEncoder(nn.Module):
    """An embedding for each code of each column, in one table, so that one look-up serves all columns.

    While training, a share `forget` of the codes is read as 0, "unknown", so that the embedding of "unknown" is trained.
    """

    first: Tensor
    last: Tensor

    def __init__(self, rows: tuple[int, ...], width: int, forget: float) -> None:
        super().__init__()
        self.forget = forget
        self.table = nn.Embedding(sum(rows), width)
        nn.init.normal_(self.table.weight, std=0.1)
        starts = [sum(rows[:column]) for column in range(len(rows))]
        self.register_buffer("first", torch.tensor(starts, dtype=torch.int32), persistent=False)  # (C,)
        self.register_buffer("last", torch.tensor([n - 1 for n in rows], dtype=torch.int32), persistent=False)

    def forward(self, categories: Tensor) -> Tensor:
        """(B, C) int32 -> (B, C * D) float32."""
        codes = torch.minimum(categories.clamp(min=0), self.last)
        if self.training and self.forget > 0.0:
            codes = codes * (torch.rand(codes.shape, device=codes.device) >= self.forget)
        embedded: Tensor = self.table(codes + self.first)  # (B, C, D)
        return embedded.flatten(1)


class TableEncoder(nn.Module):
    """All columns, concatenated. A linear layer over them, the wide part, is a generalised additive model."""

    def __init__(self, shape: NetworkShape, inputs: TableInputs) -> None:
        super().__init__()
        self.numbers = NumberEncoder(inputs.dense, shape.knees, shape.noise) if inputs.dense else None
        self.categories = CategoryEncoder(inputs.categories, shape.category, shape.forget) if inputs.categories else None
        self.scene = SceneEncoder(inputs.scenes, shape.context) if inputs.scenes else None
        scene = shape.context if inputs.scenes else 0
        trunk = inputs.dense * (2 + shape.knees) + len(inputs.categories) * shape.category + scene
        self.sizes = Sizes(
            trunk=trunk, wide=trunk, wide_kinds=("binary", "classes"), seen=trunk, scene=scene, scenes=inputs.scenes
        )

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Encode B rows of `TableInputs`."""
        parts: list[Tensor] = []
        if self.numbers is not None:
            parts += [self.numbers(inputs["dense"]), torch.isnan(inputs["dense"]).to(torch.float32)]  # (B, F * (1 + K)), (B, F)
        parts += [self.categories(inputs["categories"])] if self.categories is not None else []  # (B, C * D)
        scene, code = self.scene(inputs["scene"]) if self.scene is not None else (None, None)  # (B, S), (B,)
        parts += [scene] if scene is not None else []
        trunk = torch.cat(parts, dim=1)  # (B, H)
        return Encoded(trunk=trunk, wide=trunk, seen=trunk, scene=scene, scene_code=code)
