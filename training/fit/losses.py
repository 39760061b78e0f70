"""One loss for each task: the mean over the rows with a known label.

A task without a known label in a batch has a loss of exactly zero and a zero gradient, never NaN from an empty mean. The loss
still depends on the same parameters, so the set of shared parameters does not change from batch to batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention

from model.probabilities import unweighted
from model.tasks import Task
from training.data.dataset import UNKNOWN

_NO_LOGIT: Final = -1e9


@dataclass(frozen=True)
class ItemVectors:
    """Candidates of the retrieval loss: all items, or those of the batch.

    Attributes:
        vectors: (M, D) float32 of all items; or (B, D), the vector of each row's item, arbitrary in rows without item.
        log_q: (B,) float32, log of the share of each row's item among all; None if `vectors` has all items.
    """

    vectors: Tensor
    log_q: Tensor | None = None


def task_losses(
    logits: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    tasks: Sequence[Task],
    items: ItemVectors | None = None,
    soft_labels: Mapping[str, Tensor] | None = None,
    share: float = 0.0,
) -> dict[str, Tensor]:
    """Return each task's mean loss, () float32, in the order of `tasks`.

    Args:
        logits: outputs of the network for B rows by task: (B,), (B, C) or (B, D).
        labels: by name of label, each (B,) int64, -1 = unknown.
        tasks: the trained tasks.
        items: candidates of the task of kind `retrieval`, if there is one.
        soft_labels: task -> probabilities (B,) or (B, C); where they are NaN, the label alone is the target.
        share: weight of the soft label in the target, 0..1; the label has the rest.
    """
    by_name = {task.name: task for task in tasks}
    losses = {}
    for task in tasks:
        output, label, soft = logits[task.name].float(), labels[task.label], (soft_labels or {}).get(task.name)
        if task.kind == "classes":
            losses[task.name] = _classes(output, label, task, soft, share)
        elif task.kind == "retrieval":
            assert items is not None, f"task {task.name} is retrieval and comes without item vectors"
            losses[task.name] = _retrieval(output, label, items)
        else:
            condition = by_name.get(task.given)
            if condition is not None:
                output = joint_logit(unweighted(logits[condition.name].float(), condition), output)
            losses[task.name] = _binary(output, label, task, soft, share)
    return losses


def joint_logit(first: Tensor, second: Tensor) -> Tensor:
    """Return the logit of sigmoid(first) * sigmoid(second), (B,), without a logarithm of a difference.

    1 / p - 1 = (1 + exp(-a)) (1 + exp(-b)) - 1 = exp(-a) + exp(-b) + exp(-a - b), and the logit is -log of that.
    """
    return -torch.logsumexp(torch.stack([-first, -second, -first - second]), dim=0)


def sampled_softmax(users: Tensor, items: Tensor, numbers: Tensor, log_q: Tensor) -> Tensor:
    """Softmax loss of each user's item against the items of the other users in the batch.

    Popular items are in many batches and serve as negatives too often. Subtracting log q of each item corrects that, and the
    inner product then estimates log p(item | user), popularity included.

    Row b of `items` (B, D) is the item of user b in `users` (B, D), `numbers` (B,) int64 its number, -1 = none, and `log_q` (B,)
    the log of its share.

    Source: Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019.
    """
    known = numbers != UNKNOWN
    zero = _zero_loss(users) + _zero_loss(items)
    users, items, numbers, log_q = users[known], items[known], numbers[known], log_q[known]
    if len(numbers) < 2:  # no negatives
        return zero
    scores = users @ items.T - log_q  # (K, K)
    same = numbers.unsqueeze(0) == numbers.unsqueeze(1)
    itself = torch.eye(len(numbers), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(same & ~itself, _NO_LOGIT)  # the same item in another row is not a negative
    return F.cross_entropy(scores, torch.arange(len(numbers), device=scores.device))


def _retrieval(users: Tensor, numbers: Tensor, items: ItemVectors) -> Tensor:
    vectors = items.vectors.float()
    if items.log_q is not None:
        return sampled_softmax(users, vectors, numbers, items.log_q)
    known = numbers != UNKNOWN
    if not bool(known.any()):
        return _zero_loss(users) + _zero_loss(vectors)
    return F.cross_entropy(users[known] @ vectors.T, numbers[known])


def _classes(logits: Tensor, labels: Tensor, task: Task, soft: Tensor | None, share: float) -> Tensor:
    known = labels != UNKNOWN
    target = F.one_hot(labels.clamp(min=0), len(task.classes)).float()  # (B, C)
    target = _soft_target(target, soft, share) * known.unsqueeze(1)
    weights = torch.tensor(task.class_weights, device=logits.device) if task.class_weights else None
    return F.cross_entropy(logits, target, weight=weights, reduction="sum") / known.sum().clamp(min=1)


def _binary(logits: Tensor, labels: Tensor, task: Task, soft: Tensor | None, share: float) -> Tensor:
    known = labels != UNKNOWN
    target = _soft_target((labels == 1).float(), soft, share)  # (B,)
    weight = torch.tensor(task.positive_weight, device=logits.device)
    losses = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def _soft_target(target: Tensor, soft: Tensor | None, share: float) -> Tensor:
    """Return the target: the label, mixed with `share` of the soft label where there is one."""
    return target if soft is None else torch.where(torch.isnan(soft), target, torch.lerp(target, soft, share))


def _zero_loss(values: Tensor) -> Tensor:
    return values[:0].sum()  # zero with a zero gradient, even where values are not finite
