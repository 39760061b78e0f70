"""A sequence of items alone: the next item, by attention from the newest.

    sequence (B, L) -- item embeddings (B, L, D) -- + positions -- transformer layers (B, L, D) -- the newest of them (B, D) --.
                            |                        the newest attends to all, A heads: weights (B, A, L)                    |
                            |-- their weighted sums (B, A * D) ---------------------------------------------------------------|
                            '-- the newest item's (B, D) ---------------------------------------------------------------------|
                                                       seen (B, D) -- bent a little -- mixed to a point among items (B, D) ---'

The user vector is that point, without a tower between it and the items' own embeddings: users and items share one space, and
before any training the nearest items are the seen ones.

Sources: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018 (the layers); Hou et al., "CORE: Simple and
Effective Session-based Recommendation within Consistent Representation Space", SIGIR 2022 (sums of embeddings, cosine).

Shapes: B rows, L positions, D embedding width, A heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from model.encoders.encoded import Encoded, Sizes
from model.encoders.past import PADDING_SCORE
from model.encoders.scene import nearest_code
from model.inputs import SequenceInputs
from model.presets import NetworkShape

_START: Final = 0.1  # length of a position's embedding when training starts, against 1 of an item's


class HistoryLayer(nn.Module):
    """One transformer layer, normalised before each half. A row is one history, so every position may see all of it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"embedding {width} is no multiple of {heads} attention_heads; choose one that is")
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """(B, L, D) float32 and (B, 1, L) float32, 0 or PADDING_SCORE -> (B, L, D) float32."""
        rows, length, width = x.shape
        q, k, v = self.ask(self.before(x)).reshape(rows, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = torch.matmul(q, k.transpose(2, 3)) * (width // self.heads) ** -0.5  # (B, A, L, L)
        read = torch.matmul(torch.softmax(scores + padding.unsqueeze(1), dim=-1), v)  # (B, A, L, D / A)
        x = x + self.drop(self.mix(read.transpose(1, 2).reshape(rows, length, width)))  # (B, L, D)
        answer: Tensor = x + self.drop(self.narrow(gelu(self.widen(self.between(x)))))
        return answer


class HistoryEncoder(nn.Module):
    """Encoder of a sequence of items for the prediction of the next.

    With a temperature all embeddings have length 1, so that frequent items are not longer than rare ones.
    """

    def __init__(self, shape: NetworkShape, inputs: SequenceInputs) -> None:
        super().__init__()
        width, heads = shape.embedding, shape.attention_heads
        self.heads, self.unit = heads, shape.temperature > 0.0
        self.items = nn.Embedding(inputs.items + 1, width, padding_idx=0)
        self.places = nn.Parameter(torch.randn(inputs.length, width) * (_START * width**-0.5))  # the newest is always the last
        self.recency = nn.Parameter(torch.zeros(heads, inputs.length))
        self.layers = nn.ModuleList(HistoryLayer(width, heads, shape.dropout) for _ in range(shape.layers))
        self.ask = nn.Linear(width, heads * width)
        self.mix = nn.Linear((heads + 2 if shape.layers else heads + 1) * width, width, bias=False)
        self.norm, self.widen, self.narrow = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.drop_items, self.drop = nn.Dropout(shape.embedding_dropout), nn.Dropout(shape.dropout)
        self.sizes = Sizes(trunk=2 * width, seen=width)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Set the weights so that the result starts as the mean of the newest item and the average of all."""
        width = self.items.embedding_dim
        nn.init.normal_(self.items.weight, std=width**-0.5)
        self.items.weight[0].zero_()
        nn.init.normal_(self.ask.weight, std=width**-0.5)
        nn.init.zeros_(self.ask.bias)
        same = torch.eye(width)
        self.mix.weight.zero_()  # the layers' output does not count yet
        self.mix.weight[:, : (self.heads + 1) * width] = torch.cat([*[same / self.heads] * self.heads, same], dim=1) / 2
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Encode B rows of `SequenceInputs`."""
        sequence = nearest_code(inputs["sequence"], self.items.num_embeddings)  # (B, L)
        if self.training:
            sequence = _without_common_padding(sequence)  # most histories are short: half of the time of a step or more
        length = sequence.shape[1]
        real = (sequence > 0).to(self.places.dtype)  # (B, L) 1 or 0
        embedded = self.items(sequence)  # (B, L, D)
        items = self.drop_items(normalize(embedded, dim=2) if self.unit else embedded)
        padding = ((1.0 - real) * PADDING_SCORE).unsqueeze(1)  # (B, 1, L)
        x = items + self.places[-length:]
        for layer in self.layers:
            x = layer(x, padding)
        items = items * real.unsqueeze(2)  # (B, L, D)
        q = self.ask(x[:, -1]).reshape(-1, self.heads, self.items.embedding_dim)  # (B, A, D)
        scale = self.items.embedding_dim ** (0.5 if self.unit else -0.5)
        scores = torch.matmul(q, x.transpose(1, 2)) * scale + self.recency[:, -length:] + padding  # (B, A, L)
        read = torch.matmul(torch.softmax(scores, dim=-1), items).flatten(1)  # (B, A * D), zero for a row of padding
        parts = [read, items[:, -1]] + ([x[:, -1] * real[:, -1:]] if len(self.layers) else [])
        point = self.mix(torch.cat(parts, dim=1))  # (B, D)
        seen = point + self.narrow(self.drop(gelu(self.widen(self.norm(point)))))  # (B, D)
        return Encoded(trunk=torch.cat([seen, items[:, -1]], dim=1), seen=seen)


def _without_common_padding(sequence: Tensor) -> Tensor:
    """(B, L) -> (B, l): without the positions in front at which every row has padding; one position at least."""
    used = (sequence > 0).any(dim=0)  # (L,)
    first = int(used.to(torch.int32).argmax()) if bool(used.any()) else len(used) - 1
    return sequence[:, first:]
