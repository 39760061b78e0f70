"""The multi-task network, top to bottom: encoders -> mixture of experts -> one tower for each task.

    dense (B, F) ---- scaled ---------------------------.
    context (B, 4) -- embeddings -----------------------+-- trunk (B, H) -- MMoE --+-- fraud        (B,)
    item (B, 2) ----- item + category + kind -- token --+                          +-- intent       (B, 4)
    sequence_ids (B, 32, 4), sequence_gaps (B, 32)      |                          +-- next_action  (B, 7)
                      attention from the newest --------+                          +-- click        (B,)
    query (B, 4), query_ids (B, 4, 4), query_gaps (B, 4)|                          '-- user_vector  (B, 32)
                      own, and attention over the last -'

`MultiTaskNetwork` answers logits, which losses want; `ServingNetwork` wraps it and answers probabilities in the order
of `contract.OUTPUTS`, which is what is exported. A row's answer depends on that row alone.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from model.contract import CONTEXT_COLUMNS, OUTPUTS, QUERIES, QUERY_CODES, SEQUENCE_LENGTH, USER_VECTOR_DIM
from model.encoders import ContextEncoder, DenseEncoder, ItemEncoder, QueryEncoder, SequenceEncoder
from model.heads import Tower, UserVectorHead
from model.presets import NetworkShape
from model.sharing import MixtureOfExperts

__all__ = ["Logits", "MultiTaskNetwork", "ServingNetwork", "example_inputs"]

_SIZES: Final = {spec.name: spec.shape[0] if spec.shape else 1 for spec in OUTPUTS}


class Logits(NamedTuple):
    """Answers before sigmoid and softmax, one field for each task, in the order of `contract.OUTPUTS`."""

    fraud: Tensor  # (B,)
    intent: Tensor  # (B, 4)
    next_action: Tensor  # (B, 7)
    click: Tensor  # (B,)
    user_vector: Tensor  # (B, USER_VECTOR_DIM)


class MultiTaskNetwork(nn.Module):
    """One pass, all tasks. Build it from a preset's shape and the catalogue's number of features."""

    def __init__(self, shape: NetworkShape, features: int) -> None:
        super().__init__()
        self.shape, self.features = shape, features
        self.dense = DenseEncoder(features, shape.noise)
        self.context = ContextEncoder(shape.context)
        self.items = ItemEncoder(shape.item_buckets, shape.category_buckets, shape.embedding, shape.forget)
        self.sequence = SequenceEncoder(shape.embedding, shape.attention_heads, shape.sequence)
        self.queries = QueryEncoder(shape.query_buckets, shape.embedding, shape.query, shape.forget)
        seen = shape.embedding + shape.sequence + shape.query
        trunk = features + len(CONTEXT_COLUMNS) * shape.context + seen
        shared, tower, drop = shape.expert_out, shape.tower, shape.dropout
        self.sharing = MixtureOfExperts(trunk, shape.experts, shape.expert_hidden, shared, len(Logits._fields), drop)
        self.fraud = Tower(shared, tower, _SIZES["fraud"], drop)
        # Wide beside deep: what one feature says of fraud alone needs no expert (Cheng et al., "Wide & Deep", 2016).
        self.fraud_wide = nn.Linear(features, 1, bias=False)
        nn.init.zeros_(self.fraud_wide.weight)
        self.intent = Tower(shared, tower, _SIZES["intent"], drop)
        self.next_action = Tower(shared, tower, _SIZES["next_action"], drop)
        self.click = Tower(shared, tower, _SIZES["click"], drop)
        self.user_vector = UserVectorHead(shared, seen, tower, USER_VECTOR_DIM, drop)
        # The item's side of retrieval; not part of the served graph, its answers are written to items.npz.
        self.item_taste = nn.Linear(shape.embedding, USER_VECTOR_DIM - 1)
        self.item_bias = nn.Embedding(shape.item_buckets, 1)
        nn.init.zeros_(self.item_bias.weight)

    def forward(  # noqa: PLR0913, PLR0917  # one for each tensor of the contract
        self,
        dense: Tensor,
        context: Tensor,
        item: Tensor,
        sequence_ids: Tensor,
        sequence_gaps: Tensor,
        query: Tensor,
        query_ids: Tensor,
        query_gaps: Tensor,
    ) -> Logits:
        """Answer logits; arguments as `contract.INPUTS`, each with the batch B in front."""
        kind = context[:, 0] + 1  # (B,) as the sequence counts kinds
        event = self.items(item[:, 0], item[:, 1]) + self.sequence.embed_kinds(kind)  # (B, D)
        past = self.items(sequence_ids[:, :, 0], sequence_ids[:, :, 1])  # (B, L, D)
        history = self.sequence(past, sequence_ids[:, :, 2], sequence_ids[:, :, 3], sequence_gaps, event)  # (B, S)
        wish = self.queries(query, query_ids, query_gaps, event)  # (B, E)
        scaled = self.dense(dense)  # (B, F)
        seen = torch.cat([event, history, wish], dim=1)  # (B, D + S + E)
        trunk = torch.cat([scaled, self.context(context), seen], dim=1)  # (B, H)
        by_task = self.sharing(trunk)  # (B, 5, E)
        return Logits(
            fraud=self.fraud(by_task[:, 0]) + self.fraud_wide(scaled).squeeze(1),
            intent=self.intent(by_task[:, 1]),
            next_action=self.next_action(by_task[:, 2]),
            click=self.click(by_task[:, 3]),
            user_vector=self.user_vector(by_task[:, 4], seen),
        )

    def item_vectors(self, item: Tensor, category: Tensor) -> Tensor:
        """Vectors to set against user vectors by inner product.

        Args:
            item: (N,) int32 item buckets.
            category: (N,) int32 category buckets.

        Returns:
            (N, USER_VECTOR_DIM) float32; the last coordinate is the item's bias.
        """
        taste = self.item_taste(self.items.embed(item, category))  # (N, dim - 1)
        bias = self.item_bias(item.clamp(0, self.item_bias.num_embeddings - 1))  # (N, 1)
        return torch.cat([taste, bias], dim=1)


class ServingNetwork(nn.Module):
    """Probabilities instead of logits: what is exported, in the order of `contract.OUTPUTS`.

    Args:
        network: the trained network.
        fraud_shift: added to the fraud logit. Training weighs frauds up by w; adding -log(w) takes that back, so the
            probability means what it says (King and Zeng, "Logistic Regression in Rare Events Data", 2001).
    """

    def __init__(self, network: MultiTaskNetwork, fraud_shift: float = 0.0) -> None:
        super().__init__()
        self.network, self.fraud_shift = network, fraud_shift

    def forward(  # noqa: PLR0913, PLR0917  # one for each tensor of the contract
        self,
        dense: Tensor,
        context: Tensor,
        item: Tensor,
        sequence_ids: Tensor,
        sequence_gaps: Tensor,
        query: Tensor,
        query_ids: Tensor,
        query_gaps: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Answer (fraud, intent, next_action, click, user_vector) for inputs as `contract.INPUTS`."""
        logits: Logits = self.network(dense, context, item, sequence_ids, sequence_gaps, query, query_ids, query_gaps)
        return (
            torch.sigmoid(logits.fraud + self.fraud_shift),
            torch.softmax(logits.intent, dim=-1),
            torch.softmax(logits.next_action, dim=-1),
            torch.sigmoid(logits.click),
            logits.user_vector,
        )


def example_inputs(features: int, rows: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Return random, valid inputs as `contract.INPUTS` for export and tests: B = rows, F = features."""
    draw = torch.Generator().manual_seed(seed)

    def codes(below: int, *shape: int) -> Tensor:
        return torch.randint(0, below, shape, generator=draw, dtype=torch.int32)

    def past(length: int) -> tuple[Tensor, Tensor]:
        real = codes(length + 1, rows, 1) > torch.arange(length - 1, -1, -1)  # (B, L), padding in front
        gaps = torch.rand(rows, length, generator=draw) * 86_400.0
        return real.to(torch.int32).unsqueeze(2), gaps.sort(dim=1, descending=True).values * real

    real, gaps = past(SEQUENCE_LENGTH)
    ids = torch.stack([1 + codes(below, rows, SEQUENCE_LENGTH) for below in (4096, 512, 6, 15)], dim=2)  # (B, L, 4)
    searched, query_gaps = past(QUERIES)
    return (
        torch.randn(rows, features, generator=draw) * 10.0,
        torch.stack([codes(below, rows) for below in (6, 10, 6, 24)], dim=1),
        torch.stack([codes(4096, rows), codes(512, rows)], dim=1),
        ids * real,
        gaps,
        codes(2048, rows, QUERY_CODES) * codes(2, rows, 1),
        (1 + codes(2048, rows, QUERIES, QUERY_CODES)) * searched,
        query_gaps,
    )
