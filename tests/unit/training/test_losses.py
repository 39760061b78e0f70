"""Losses: unknown labels weigh nothing, and sampled softmax is the full one where it should be."""

from __future__ import annotations

import pytest
import torch

from model.network import Logits
from training.balancing import balancing
from training.losses import TASKS, sampled_softmax, task_losses

ROWS, DIM = 6, 8


def made_up() -> tuple[Logits, dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    logits = Logits(*(torch.randn(ROWS, *shape, requires_grad=True) for shape in ((), (4,), (7,), (), (DIM,))))
    labels = {
        "fraud": torch.tensor([0, 1, -1, 0, 1, 0]),
        "intent": torch.tensor([0, 1, 2, 3, -1, -1]),
        "next_action": torch.tensor([6, 5, 4, 3, 2, -1]),
        "click": torch.tensor([-1, 1, 0, 1, 0, -1]),
        "next_item": torch.tensor([3, -1, 4, 3, 9, -1]),
    }
    return logits, labels, torch.randn(ROWS, DIM), torch.full((ROWS,), -2.0)


def test_a_row_without_a_label_has_no_gradient() -> None:
    logits, labels, items, log_q = made_up()
    losses = task_losses(logits, labels, items, log_q, fraud_weight=3.0)
    assert tuple(losses) == TASKS
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    for task, name in zip(TASKS, ("fraud", "intent", "next_action", "click", "next_item"), strict=True):
        gradient = getattr(logits, task).grad.reshape(ROWS, -1).abs().sum(dim=1)
        assert ((gradient > 0) == (labels[name] >= 0)).all(), task


def test_a_batch_without_any_label_has_no_loss_and_no_nan() -> None:
    logits, labels, items, log_q = made_up()
    unknown = {name: torch.full_like(values, -1) for name, values in labels.items()}
    losses = task_losses(logits, unknown, items, log_q, fraud_weight=3.0)
    assert [loss.item() for loss in losses.values()] == [0.0] * len(TASKS)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch has no types for it


def test_a_fraud_weighs_as_much_as_it_is_said_to() -> None:
    logits, labels, items, log_q = made_up()
    plain, weighted = (task_losses(logits, labels, items, log_q, fraud_weight=w)["fraud"] for w in (1.0, 3.0))
    known = labels["fraud"] == 1
    frauds = torch.nn.functional.softplus(-logits.fraud[known]).sum() / 5
    torch.testing.assert_close(weighted - plain, 2 * frauds)


def test_sampled_softmax_over_all_items_with_equal_shares_is_the_full_softmax() -> None:
    torch.manual_seed(3)
    users, items, numbers = torch.randn(5, DIM), torch.randn(5, DIM), torch.arange(5)
    wanted = torch.nn.functional.cross_entropy(users @ items.T, numbers)
    torch.testing.assert_close(sampled_softmax(users, items, numbers, torch.full((5,), -1.6)), wanted)


def test_the_same_item_in_another_row_is_no_wrong_answer() -> None:
    users, items = torch.eye(3), torch.tensor([[9.0, 0, 0], [9.0, 0, 0], [0, 0, 9.0]])
    same = sampled_softmax(users, items, torch.tensor([1, 1, 2]), torch.zeros(3))
    other = sampled_softmax(users, items, torch.tensor([1, 7, 2]), torch.zeros(3))
    assert same < other


@pytest.mark.parametrize("kind", ["fixed", "uncertainty"])
def test_every_task_reaches_the_sum(kind: str) -> None:
    losses = {task: torch.tensor(float(n + 1), requires_grad=True) for n, task in enumerate(TASKS)}
    total = balancing(kind, dict.fromkeys(TASKS, 2.0))(losses)  # type: ignore[arg-type]  # a literal, by parameter
    total.backward()
    assert all(loss.grad is not None and loss.grad > 0 for loss in losses.values())
    assert total.item() == (30.0 if kind == "fixed" else 15.0)
