"""One loss for each task, each the mean over the rows whose label is known.

A task without a known label in a batch has a loss of exactly zero and no gradient; it never makes NaN of an empty mean. Its
loss still depends on all that it would depend on with labels, so that what is shared does not change from batch to batch.
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

__all__ = ["ItemVectors", "joint_logit", "sampled_softmax", "task_losses"]

_NO_LOGIT: Final = -1e9


@dataclass(frozen=True)
class ItemVectors:
    """What retrieval tells the right item from: all items, or those of the batch.

    Attributes:
        vectors: (M, D) float32 of all items; or (B, D), the vector of each row's item, anything where there is none.
        log_q: (B,) float32, log of the share of each row's item among all; None if `vectors` has all items.
    """

    vectors: Tensor
    log_q: Tensor | None = None


def task_losses(
    logits: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    tasks: Sequence[Task],
    items: ItemVectors | None = None,
    taught: Mapping[str, Tensor] | None = None,
    share: float = 0.0,
) -> dict[str, Tensor]:
    """Return each task's mean loss, () float32, in the order of `tasks`.

    Args:
        logits: of B rows by task, as the network answers them: (B,), (B, C) or (B, D).
        labels: by name of label, each (B,) int64, -1 = unknown.
        tasks: what is asked.
        items: of the task of kind `retrieval`, if there is one.
        taught: task -> a teacher's probabilities (B,) or (B, C), NaN where it says nothing: the label alone counts there.
        share: of the teacher's answer in what is learnt, 0..1; the label has the rest.
    """
    by_name = {task.name: task for task in tasks}
    losses = {}
    for task in tasks:
        answer, label, said = logits[task.name].float(), labels[task.label], (taught or {}).get(task.name)
        if task.kind == "classes":
            losses[task.name] = _classes(answer, label, task, said, share)
        elif task.kind == "retrieval":
            assert items is not None, f"task {task.name} is retrieval and comes without item vectors"
            losses[task.name] = _retrieval(answer, label, items)
        else:
            given = by_name.get(task.given)
            if given is not None:
                answer = joint_logit(unweighted(logits[given.name].float(), given), answer)
            losses[task.name] = _binary(answer, label, task, said, share)
    return losses


def joint_logit(first: Tensor, second: Tensor) -> Tensor:
    """Return the logit of sigmoid(first) * sigmoid(second), (B,), without a logarithm of a difference.

    1 / p - 1 = (1 + exp(-a)) (1 + exp(-b)) - 1 = exp(-a) + exp(-b) + exp(-a - b), and the logit is -log of that.
    """
    return -torch.logsumexp(torch.stack([-first, -second, -first - second]), dim=0)


def sampled_softmax(users: Tensor, items: Tensor, numbers: Tensor, log_q: Tensor) -> Tensor:
    """Tell each user's item from the other users' items in the batch.

    Popular items are in many batches and so are told off too often; subtracting log q of each takes that back, and the
    inner product then estimates log p(item | user), popularity included.

    Source: Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019.

    Args:
        users: (B, D).
        items: (B, D), row b the item of user b.
        numbers: (B,) int64, that item's number, -1 = none.
        log_q: (B,) log of that item's share.
    """
    known = numbers != UNKNOWN
    nothing = _nothing(users) + _nothing(items)
    users, items, numbers, log_q = users[known], items[known], numbers[known], log_q[known]
    if len(numbers) < 2:  # nothing to be told from
        return nothing
    scores = users @ items.T - log_q  # (K, K)
    same = numbers.unsqueeze(0) == numbers.unsqueeze(1)
    itself = torch.eye(len(numbers), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(same & ~itself, _NO_LOGIT)  # the same item in another row is no wrong answer
    return F.cross_entropy(scores, torch.arange(len(numbers), device=scores.device))


def _retrieval(users: Tensor, numbers: Tensor, items: ItemVectors) -> Tensor:
    vectors = items.vectors.float()
    if items.log_q is not None:
        return sampled_softmax(users, vectors, numbers, items.log_q)
    known = numbers != UNKNOWN
    if not bool(known.any()):
        return _nothing(users) + _nothing(vectors)
    return F.cross_entropy(users[known] @ vectors.T, numbers[known])


def _classes(logits: Tensor, labels: Tensor, task: Task, taught: Tensor | None, share: float) -> Tensor:
    known = labels != UNKNOWN
    target = F.one_hot(labels.clamp(min=0), len(task.classes)).float()  # (B, C)
    target = _mixed(target, taught, share) * known.unsqueeze(1)
    weights = torch.tensor(task.class_weights, device=logits.device) if task.class_weights else None
    return F.cross_entropy(logits, target, weight=weights, reduction="sum") / known.sum().clamp(min=1)


def _binary(logits: Tensor, labels: Tensor, task: Task, taught: Tensor | None, share: float) -> Tensor:
    known = labels != UNKNOWN
    target = _mixed((labels == 1).float(), taught, share)  # (B,)
    weight = torch.tensor(task.positive_weight, device=logits.device)
    each = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def _mixed(target: Tensor, taught: Tensor | None, share: float) -> Tensor:
    """Return what is learnt: the label, and `share` of the teacher's answer where it gives one."""
    return target if taught is None else torch.where(torch.isnan(taught), target, torch.lerp(target, taught, share))


def _nothing(values: Tensor) -> Tensor:
    return values[:0].sum()  # zero, even where values are not finite; its gradient is zero too
