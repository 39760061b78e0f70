"""A user's past, read by attention from the event: the last interactions and the last queries.

Shapes: B rows, L sequence positions, D embedding width, A attention heads, R queries, E query width.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from model.contract import PRICE_BUCKETS, QUERY_CODES, SEQUENCE_LENGTH
from model.encoders.context import CONTEXT_ROWS
from model.encoders.dense import LARGEST

KIND_ROWS: Final = CONTEXT_ROWS[0] + 1  # the sequence holds kind + 1, so that 0 is padding

# Knees of the time-gap encoding, in log(1 + seconds): 0 s, 10 s, 1 min, 5 min, 1 h, 6 h, 1 day, 7 days.
GAP_KNEES: Final = tuple(math.log1p(s) for s in (0, 10, 60, 300, 3_600, 21_600, 86_400, 604_800))
GAP_UNIT: Final = 1.0 / math.log1p(86_400)  # keeps the encoding near 1 at one day

# Added to the score of a padded position. Finite on purpose: a row of padding only must not become 0/0 in the softmax.
PADDING_SCORE: Final = -1e4


class SequenceEncoder(nn.Module):
    """Attention over the user's last interactions, with the newest of them and the event as the query.

    There is one query position, so this is O(L) where self-attention is O(L^2). The key and value projections need not be
    applied to all L positions: q . (K x) = (K' q) . x, and the weighted sum of V x is V of the weighted sum. Both are folded
    into the query and the output layer, and the L positions need look-ups and two small products alone.
    """

    def __init__(self, width: int, heads: int, out: int) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.kinds = nn.Embedding(KIND_ROWS, width, padding_idx=0)
        self.prices = nn.Embedding(PRICE_BUCKETS, width, padding_idx=0)
        self.gaps = nn.Linear(len(GAP_KNEES), width, bias=False)
        self.places = nn.Parameter(torch.zeros(SEQUENCE_LENGTH, width))
        self.query = nn.Linear(2 * width, heads * width)
        self.mix = nn.Linear((heads + 2) * width, out)
        self.norm = nn.LayerNorm(out)
        self.deepen = nn.Linear(out, out)
        self.register_buffer("knees", torch.tensor(GAP_KNEES), persistent=False)
        for table in (self.kinds, self.prices):
            nn.init.normal_(table.weight, std=0.1)
            with torch.no_grad():
                table.weight[0].zero_()

    knees: Tensor

    def embed_kinds(self, kinds: Tensor) -> Tensor:
        """(...) int32 kind + 1, 0 = padding -> (..., D) float32."""
        embedded: Tensor = self.kinds(kinds.clamp(0, KIND_ROWS - 1))
        return embedded

    def embed_steps(self, kinds: Tensor, prices: Tensor) -> Tensor:
        """(...) int32 kind + 1 and (...) int32 price bucket, 0 = none -> (..., D) float32.

        The sum of the two tables is a constant of the served graph, so one look-up serves both.
        """
        both = (self.kinds.weight.unsqueeze(1) + self.prices.weight).flatten(0, 1)  # (kinds * prices, D)
        step = kinds.clamp(0, KIND_ROWS - 1) * PRICE_BUCKETS + prices.clamp(0, PRICE_BUCKETS - 1)
        return nn.functional.embedding(step, both)

    def forward(self, items: Tensor, kinds: Tensor, prices: Tensor, gaps: Tensor, event: Tensor) -> Tensor:
        """Return (B, out) float32.

        Args:
            items: (B, L, D) float32, item and category of each position, oldest first, padding in front.
            kinds: (B, L) int32, kind + 1 of each position, 0 = padding.
            prices: (B, L) int32, price bucket of each position, 0 = none.
            gaps: (B, L) float32, seconds from each position to the event.
            event: (B, D) float32, the event's own token.
        """
        real = (kinds > 0).to(items.dtype)  # (B, L) 1 or 0
        x = items + self.embed_steps(kinds, prices)  # (B, L, D)
        bends = _bends(gaps, self.knees)
        # `addmm` adds within the product: another sum over all positions would cost as much as the product.
        x = torch.addmm(x.flatten(0, 1), bends, self.gaps.weight.T).reshape(x.shape)

        # Positions enter by two products without a batch, not by a sum over all positions of all rows.
        newest = (x[:, -1] + self.places[-1]) * real[:, -1:]  # (B, D), zero where there is no history
        asks = torch.cat([newest, event], dim=1)  # (B, 2D)
        q = self.query(asks).reshape(-1, self.heads, self.width)  # (B, A, D)
        scores = torch.matmul(q, x.transpose(1, 2)) + torch.matmul(q, self.places.T)  # (B, A, L)
        scores = scores * self.width**-0.5 + (1.0 - real).unsqueeze(1) * PADDING_SCORE
        weights = torch.softmax(scores, dim=-1) * real.unsqueeze(1)  # (B, A, L), all 0 for a row of padding
        read = (torch.matmul(weights, x) + torch.matmul(weights, self.places)).reshape(-1, self.heads * self.width)  # (B, A*D)

        y = self.norm(self.mix(torch.cat([read, asks], dim=1)))  # (B, out)
        answer: Tensor = y + torch.relu(self.deepen(y))
        return answer


class QueryEncoder(nn.Module):
    """The user's wish: the event's own query, and the last queries, weighted by the event and by their age.

    A query is the sum of the embedding of its whole text and the mean of its words' embeddings, from one table: a new query
    starts from its words. While training, whole queries are dropped at random, as items are.
    """

    def __init__(self, buckets: int, event: int, width: int, forget: float) -> None:
        super().__init__()
        self.forget, self.width = forget, width
        self.texts = nn.Embedding(buckets, width, padding_idx=0)
        self.gaps = nn.Linear(len(GAP_KNEES), 1, bias=False)
        self.ask = nn.Linear(event, width)
        self.mix = nn.Linear(2 * width, width)
        self.register_buffer("knees", torch.tensor(GAP_KNEES), persistent=False)
        nn.init.normal_(self.texts.weight, std=0.1)
        with torch.no_grad():
            self.texts.weight[0].zero_()

    knees: Tensor

    def embed(self, codes: Tensor) -> Tensor:
        """(B, R, 4) int32 codes of queries, 0 = none -> (B, R, E) float32; drops queries while training."""
        codes = codes.clamp(0, self.texts.num_embeddings - 1)
        whole, parts = codes[:, :, 0], codes[:, :, 1:]
        if self.training and self.forget > 0.0:
            whole = whole * (torch.rand(whole.shape, device=whole.device) >= self.forget)
        count = (parts > 0).to(torch.float32).sum(dim=2, keepdim=True).clamp(min=1.0)  # (B, R, 1)
        words = self.texts(parts[:, :, 0])  # added one by one: ONNX Runtime's ReduceSum over them takes twice as long
        for place in range(1, QUERY_CODES - 1):
            words = words + self.texts(parts[:, :, place])
        embedded: Tensor = self.texts(whole) + words / count
        return embedded

    def forward(self, query: Tensor, query_ids: Tensor, query_gaps: Tensor, event: Tensor) -> Tensor:
        """Return (B, E) float32.

        Args:
            query: (B, 4) int32, codes of the event's own query, zeros if it is no search.
            query_ids: (B, R, 4) int32, those of the last queries, oldest first, padding in front.
            query_gaps: (B, R) float32, seconds from each to the event.
            event: (B, D) float32, the event's own token.
        """
        texts = self.embed(torch.cat([query_ids, query.unsqueeze(1)], dim=1))  # (B, R + 1, E)
        past, own = texts[:, :-1], texts[:, -1]
        real = (query_ids[:, :, 0] > 0).to(texts.dtype)  # (B, R)
        scores = (past * self.ask(event).unsqueeze(1)).sum(dim=2) * self.width**-0.5  # (B, R)
        age = self.gaps(_bends(query_gaps, self.knees)).reshape(real.shape)
        scores = scores + age + (1.0 - real) * PADDING_SCORE
        weights = torch.softmax(scores, dim=-1) * real  # (B, R), all 0 without a past query
        read = (weights.unsqueeze(2) * past).sum(dim=1)  # (B, E)
        answer: Tensor = self.mix(torch.cat([own, read], dim=1))
        return answer


def _bends(gaps: Tensor, knees: Tensor) -> Tensor:
    """(B, L) float32 seconds -> (B * L, knees) float32, piecewise linear in log time."""
    past = torch.log1p(torch.where(torch.isnan(gaps), 0.0, gaps).clamp(0.0, LARGEST)).reshape(-1, 1)
    unit = torch.full_like(knees, GAP_UNIT).unsqueeze(1)
    return torch.relu(nn.functional.linear(past, unit, -knees * GAP_UNIT))  # as a product it is faster than as a difference
