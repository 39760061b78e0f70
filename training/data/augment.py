"""Augmentation of training rows: dropout of events, crop of histories, dropout of words.

Random numbers come from torch's own generator. Sequences stay oldest first with padding in front; texts keep their padding at the
end. The newest event and the first token (the tokenizer's start mark) are never dropped.

Source: crop and dropout of items: Xie et al., "Contrastive Learning for Sequential Recommendation", ICDE 2022; of words:
Iyyer et al., "Deep Unordered Composition Rivals Syntactic Methods for Text Classification", ACL 2015.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from training.config import TrainingOptions

# Arrays of one sequence; in the first, padding has code 0 in all columns.
_SEQUENCES = (("sequence_ids", "sequence_gaps"), ("query_ids", "query_gaps"), ("sequence",))


def augment(inputs: Mapping[str, Tensor], options: TrainingOptions) -> dict[str, Tensor]:
    """Return the augmented inputs of a batch, by name; changed arrays are new."""
    result = dict(inputs)
    if options.event_dropout > 0 or options.sequence_crop > 0:
        for names in _SEQUENCES:
            if names[0] in inputs:
                keep = _event_mask(inputs[names[0]], options)
                result |= {name: _right_align(inputs[name], keep) for name in names}
    if options.text_word_dropout > 0 and "tokens" in inputs:
        uniform = torch.rand(inputs["tokens"].shape, device=inputs["tokens"].device)
        keep = (uniform >= options.text_word_dropout) & (inputs["tokens"] != 0)
        keep[:, 0] = inputs["tokens"][:, 0] != 0
        result["tokens"] = _right_align(inputs["tokens"].flip(1), keep.flip(1)).flip(1)
    if options.text_word_dropout > 0 and "grams" in inputs:
        keep = torch.rand(inputs["grams"].shape, device=inputs["grams"].device) >= options.text_word_dropout
        result |= {name: inputs[name] * keep for name in ("grams", "gram_values")}
    return result


def _event_mask(codes: Tensor, options: TrainingOptions) -> Tensor:
    """Return the positions that stay, (B, L) bool, of codes (B, L) or (B, L, C)."""
    real = codes != 0 if codes.dim() == 2 else (codes != 0).any(dim=2)  # (B, L)
    rows, length = real.shape
    newest = torch.arange(length, device=codes.device) == length - 1
    not_dropped = torch.rand(rows, length, device=codes.device) >= options.event_dropout
    lengths = real.sum(dim=1, keepdim=True)  # (B, 1)
    crop = 1 + (torch.rand(rows, 1, device=codes.device) * lengths).long()  # 1 .. length newest positions
    crop = torch.where(torch.rand(rows, 1, device=codes.device) < options.sequence_crop, crop, length)
    recent = torch.arange(length, 0, -1, device=codes.device) <= crop  # (B, L)
    return real & ((not_dropped & recent) | newest)


def _right_align(values: Tensor, keep: Tensor) -> Tensor:
    """Return `values` (B, L) or (B, L, C) with the kept positions at the end, in their order, and zeros in front."""
    order = keep.to(torch.int8).argsort(dim=1, stable=True)  # (B, L), dropped ones first
    keep = keep.gather(1, order)
    if values.dim() == 3:
        order, keep = order.unsqueeze(2).expand_as(values), keep.unsqueeze(2)
    return values.gather(1, order) * keep
