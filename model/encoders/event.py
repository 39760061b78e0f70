"""A shop's event with its user's past: the tensors of `model.contract.INPUTS`.

dense (B, F) ---- scaled -------------------------------------------- wide
context (B, 4) -- embeddings ---------------------------------------- scene (its two columns of scene and platform)
item (B, 2) ----- item + category + kind -- token --.
sequence_ids (B, L, 4), sequence_gaps (B, L)        |
attention from the newest --------+---------------- seen        trunk: all of them
query (B, 4), query_ids (B, R, 4), query_gaps (B, R)|
own, and attention over the last -'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from model.contract import CONTEXT_COLUMNS
from model.encoders.context import CONTEXT_ROWS, ContextEncoder, ItemEncoder
from model.encoders.dense import NumberEncoder
from model.encoders.encoded import Encoded, Sizes
from model.encoders.past import QueryEncoder, SequenceEncoder
from model.inputs import EventInputs
from model.presets import NetworkShape

_SCENE: Final = CONTEXT_COLUMNS.index("scene")
_PLATFORM: Final = CONTEXT_COLUMNS.index("platform")


class EventEncoder(nn.Module):
    """Features, context, item, history and queries of an event, concatenated."""

    def __init__(self, shape: NetworkShape, inputs: EventInputs) -> None:
        super().__init__()
        self.numbers = NumberEncoder(inputs.features, shape.knees, shape.noise)
        self.context = ContextEncoder(shape.context)
        self.items = ItemEncoder(shape.item_buckets, shape.category_buckets, shape.embedding, shape.forget)
        self.sequence = SequenceEncoder(shape.embedding, shape.attention_heads, shape.sequence)
        self.queries = QueryEncoder(shape.query_buckets, shape.embedding, shape.query, shape.forget)
        seen = shape.embedding + shape.sequence + shape.query
        self.sizes = Sizes(
            trunk=self.numbers.width + len(CONTEXT_COLUMNS) * shape.context + seen,
            wide=self.numbers.width,
            wide_kinds=("binary",),
            seen=seen,
            scene=2 * shape.context,
            scenes=CONTEXT_ROWS[_SCENE],
        )

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Encode B rows of `contract.INPUTS`."""
        item, past = inputs["item"], inputs["sequence_ids"]
        context = self.context(inputs["context"])  # (B, 4 * C)
        kind = inputs["context"][:, 0] + 1  # (B,) as the sequence counts kinds
        event = self.items(item[:, 0], item[:, 1]) + self.sequence.embed_kinds(kind)  # (B, D)
        touched = self.items(past[:, :, 0], past[:, :, 1])  # (B, L, D)
        history = self.sequence(touched, past[:, :, 2], past[:, :, 3], inputs["sequence_gaps"], event)  # (B, S)
        wish = self.queries(inputs["query"], inputs["query_ids"], inputs["query_gaps"], event)  # (B, E)
        scaled = self.numbers(inputs["dense"])  # (B, F), or (B, F * (1 + K)) with K bins of each feature
        seen = torch.cat([event, history, wish], dim=1)  # (B, D + S + E)
        width = context.shape[1] // len(CONTEXT_COLUMNS)
        return Encoded(
            trunk=torch.cat([scaled, context, seen], dim=1),  # (B, H)
            wide=scaled,
            seen=seen,
            scene=context[:, _SCENE * width : (_PLATFORM + 1) * width],  # the two stand side by side
            scene_code=inputs["context"][:, _SCENE].clamp(0, CONTEXT_ROWS[_SCENE] - 1),
        )
