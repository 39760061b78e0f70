"""One loss for each task, each over the rows whose label is known.

A task without a known label in a batch has a loss of exactly zero and no gradient; it never makes NaN of an empty mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention

from model.network import Logits
from training.labels import UNKNOWN

__all__ = ["TASKS", "sampled_softmax", "task_losses"]

TASKS: Final = ("fraud", "intent", "next_action", "click", "user_vector")
_NO_LOGIT: Final = -1e9


def task_losses(
    logits: Logits, labels: Mapping[str, Tensor], item_vectors: Tensor, log_q: Tensor, fraud_weight: float
) -> dict[str, Tensor]:
    """Return each task's mean loss.

    Args:
        logits: of B rows.
        labels: fraud, intent, next_action, click, next_item, each (B,) int64, -1 = unknown.
        item_vectors: (B, D), the vector of each row's next item; anything where there is none.
        log_q: (B,) float32, log of how often the row's next item is one, among all.
        fraud_weight: of a fraudulent row.
    """
    fraud = labels["fraud"]
    weights = torch.where(fraud == 1, fraud_weight, 1.0) * (fraud != UNKNOWN)
    each = F.binary_cross_entropy_with_logits(logits.fraud, (fraud == 1).float(), reduction="none")
    return {
        "fraud": (each * weights).sum() / (fraud != UNKNOWN).sum().clamp(min=1),
        "intent": _cross_entropy(logits.intent, labels["intent"]),
        "next_action": _cross_entropy(logits.next_action, labels["next_action"]),
        "click": _binary(logits.click, labels["click"]),
        "user_vector": sampled_softmax(logits.user_vector, item_vectors, labels["next_item"], log_q),
    }


def sampled_softmax(users: Tensor, items: Tensor, numbers: Tensor, log_q: Tensor) -> Tensor:
    """Tell each user's next item from the other users' next items in the batch.

    Popular items are in many batches and so are told off too often; subtracting log q of each takes that back, and the
    inner product then estimates log p(item | user), popularity included.

    Source: Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019.

    Args:
        users: (B, D).
        items: (B, D), row b the next item of user b.
        numbers: (B,) int64, that item's number, -1 = none.
        log_q: (B,) log of that item's share.
    """
    known = numbers != UNKNOWN
    users, items, numbers, log_q = users[known], items[known], numbers[known], log_q[known]
    if len(numbers) < 2:  # nothing to be told from
        return users.sum() * 0.0
    scores = users @ items.T - log_q  # (K, K)
    same = numbers.unsqueeze(0) == numbers.unsqueeze(1)
    itself = torch.eye(len(numbers), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(same & ~itself, _NO_LOGIT)  # the same item in another row is no wrong answer
    return F.cross_entropy(scores, torch.arange(len(numbers), device=scores.device))


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    total = F.cross_entropy(logits, labels, ignore_index=UNKNOWN, reduction="sum")
    return total / (labels != UNKNOWN).sum().clamp(min=1)


def _binary(logits: Tensor, labels: Tensor) -> Tensor:
    known = labels != UNKNOWN
    each = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).float(), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)
