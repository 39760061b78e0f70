"""Random valid rows, for tracing an export and for tests."""

from __future__ import annotations

import torch
from torch import Tensor

from model.contract import QUERIES, QUERY_CODES, SEQUENCE_LENGTH
from model.inputs import EventInputs, Inputs, SequenceInputs, TableInputs


def example_inputs(inputs: Inputs, rows: int, seed: int = 0) -> dict[str, Tensor]:
    """Return B = `rows` random rows by tensor's name, in the order of `inputs.tensors()`. The same seed gives the same."""
    draw = _Draw(rows, seed)
    if isinstance(inputs, EventInputs):
        return draw.events(inputs.features)
    if isinstance(inputs, SequenceInputs):
        real = draw.real(inputs.length).squeeze(2)  # (B, L)
        return {"sequence": real * (1 + draw.codes(inputs.items, rows, inputs.length))}
    tensors: dict[str, Tensor] = {}
    if isinstance(inputs, TableInputs):
        tensors |= {"dense": draw.normal(inputs.dense)} if inputs.dense else {}
        columns = [draw.codes(below, rows) for below in inputs.categories]
        tensors |= {"categories": torch.stack(columns, dim=1)} if columns else {}
    else:
        real = draw.real(inputs.length).squeeze(2).flip(1)  # (B, L), padding at the end
        tensors["tokens"] = real * (1 + draw.codes(inputs.vocabulary - 1, rows, inputs.length))
        if inputs.grams:
            real = draw.real(inputs.grams).squeeze(2).flip(1)  # (B, G)
            tensors["grams"] = real * (1 + draw.codes(inputs.gram_buckets - 1, rows, inputs.grams))
            tensors["gram_values"] = real * torch.rand(rows, inputs.grams, generator=draw.generator)
    return tensors | ({"scene": draw.codes(inputs.scenes, rows)} if inputs.scenes else {})


class _Draw:
    """Seeded draws for `rows` rows."""

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.generator = rows, torch.Generator().manual_seed(seed)

    def codes(self, below: int, *shape: int) -> Tensor:
        """Return int32 of that shape, within 0..below-1."""
        return torch.randint(0, below, shape, generator=self.generator, dtype=torch.int32)

    def normal(self, columns: int) -> Tensor:
        """Return (B, columns) float32 with a standard deviation of 10."""
        return torch.randn(self.rows, columns, generator=self.generator) * 10.0

    def real(self, length: int) -> Tensor:
        """Return (B, length, 1) int32, 0 for padding in front and 1 behind it."""
        return (self.codes(length + 1, self.rows, 1) > torch.arange(length - 1, -1, -1)).to(torch.int32).unsqueeze(2)

    def past(self, length: int) -> tuple[Tensor, Tensor]:
        """Return the mask of real positions, (B, length, 1), and their age in seconds, (B, length), descending."""
        real = self.real(length)
        gaps = torch.rand(self.rows, length, generator=self.generator) * 86_400.0
        return real, gaps.sort(dim=1, descending=True).values * real.squeeze(2)

    def events(self, features: int) -> dict[str, Tensor]:
        """Return tensors of `contract.INPUTS`."""
        rows, codes = self.rows, self.codes
        real, gaps = self.past(SEQUENCE_LENGTH)
        ids = torch.stack([1 + codes(below, rows, SEQUENCE_LENGTH) for below in (4096, 512, 6, 15)], dim=2)  # (B, L, 4)
        searched, query_gaps = self.past(QUERIES)
        return {
            "dense": self.normal(features),
            "context": torch.stack([codes(below, rows) for below in (6, 10, 6, 24)], dim=1),
            "item": torch.stack([codes(4096, rows), codes(512, rows)], dim=1),
            "sequence_ids": ids * real,
            "sequence_gaps": gaps,
            "query": codes(2048, rows, QUERY_CODES) * codes(2, rows, 1),
            "query_ids": (1 + codes(2048, rows, QUERIES, QUERY_CODES)) * searched,
            "query_gaps": query_gaps,
        }
