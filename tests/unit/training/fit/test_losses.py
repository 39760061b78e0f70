"""Losses: unknown labels have no weight, weights scale the loss, and sampled softmax equals the full one in the limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.probabilities import probabilities
from model.tasks import SHOP_TASKS, Task
from training.fit.losses import ItemVectors, joint_logit, sampled_softmax, task_losses

ROWS, DIM, ITEMS = 6, 8, 12


def made_up() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], ItemVectors]:
    draw = torch.Generator().manual_seed(2)
    shapes = {"binary": (), "classes": (4,), "retrieval": (DIM,)}
    logits = {}
    for task in SHOP_TASKS:
        shape = (len(task.classes),) if task.kind == "classes" else shapes[task.kind]
        logits[task.name] = torch.randn(ROWS, *shape, generator=draw).requires_grad_()
    labels = {
        "fraud": torch.tensor([0, 1, -1, 0, 1, 0]),
        "intent": torch.tensor([0, 1, 2, 3, -1, -1]),
        "next_action": torch.tensor([6, 5, 4, 3, 2, -1]),
        "click": torch.tensor([-1, 1, 0, 1, 0, -1]),
        "conversion": torch.tensor([-1, 1, 0, 0, -1, 0]),
        "next_item": torch.tensor([3, -1, 4, 3, 9, -1]),
    }
    items = torch.randn(ITEMS, DIM, generator=draw).requires_grad_()
    return logits, labels, ItemVectors(items)


def in_batch(labels: dict[str, torch.Tensor], items: ItemVectors) -> ItemVectors:
    return ItemVectors(items.vectors[labels["next_item"].clamp(min=0)], torch.full((ROWS,), -2.0))


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("full", [False, True])
def test_a_row_without_a_label_has_no_gradient(full: bool) -> None:
    logits, labels, items = made_up()
    own = tuple(replace(task, given="") for task in SHOP_TASKS)
    losses = task_losses(logits, labels, own, items if full else in_batch(labels, items))
    assert tuple(losses) == tuple(task.name for task in SHOP_TASKS)
    total(losses).backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    for task in SHOP_TASKS:
        gradient = logits[task.name].grad
        assert gradient is not None
        assert ((gradient.reshape(ROWS, -1).abs().sum(dim=1) > 0) == (labels[task.label] >= 0)).all(), task.name


@pytest.mark.parametrize("full", [False, True])
def test_a_batch_without_any_label_has_a_loss_of_zero_that_still_reaches_everything(full: bool) -> None:
    logits, labels, items = made_up()
    unknown = {name: torch.full_like(values, -1) for name, values in labels.items()}
    losses = task_losses(logits, unknown, SHOP_TASKS, items if full else in_batch(unknown, items))
    assert [loss.item() for loss in losses.values()] == [0.0] * len(SHOP_TASKS)
    total(losses).backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    for logit in logits.values():
        gradient = logit.grad
        assert gradient is not None
        assert not gradient.any()
    assert items.vectors.grad is not None
    assert not items.vectors.grad.any()


def test_a_positive_row_has_its_configured_weight() -> None:
    logits, labels, _ = made_up()
    single, weighted = (task_losses(logits, labels, (replace(SHOP_TASKS[0], positive_weight=w),))["fraud"] for w in (1.0, 3.0))
    frauds = torch.nn.functional.softplus(-logits["fraud"][labels["fraud"] == 1]).sum() / 5
    torch.testing.assert_close(weighted - single, 2 * frauds)


def test_a_class_has_its_configured_weight() -> None:
    logits, labels, _ = made_up()
    weights = (1.0, 2.0, 0.0, 0.5)
    task = replace(SHOP_TASKS[1], class_weights=weights)
    x, y = logits["intent"].detach().double().numpy(), labels["intent"].numpy()
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    expected = np.mean([-weights[y[row]] * log_p[row, y[row]] for row in range(ROWS) if y[row] >= 0])
    assert task_losses(logits, labels, (task,))["intent"].item() == pytest.approx(expected, rel=1e-5)


def test_a_conversion_is_trained_on_its_clicks_probability_times_its_own() -> None:
    logits, labels, _ = made_up()
    tasks = (replace(SHOP_TASKS[3], positive_weight=4.0), SHOP_TASKS[4])
    predicted = probabilities(logits, tasks)["conversion"].double()
    known = labels["conversion"] >= 0
    expected = torch.nn.functional.binary_cross_entropy(predicted[known], labels["conversion"][known].double())
    losses = task_losses(logits, labels, tasks)
    assert losses["conversion"].item() == pytest.approx(expected.item(), rel=1e-5)
    losses["conversion"].backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    assert logits["click"].grad is not None
    assert ((logits["click"].grad != 0) == known).all()  # unclicked impressions teach it too


@pytest.mark.parametrize(("first", "second"), [(0.3, -1.2), (80.0, -80.0), (80.0, 80.0), (-80.0, -80.0), (0.0, 200.0)])
def test_the_joint_logit_is_that_of_the_product(first: float, second: float) -> None:
    joint = joint_logit(torch.tensor([first], dtype=torch.float64), torch.tensor([second], dtype=torch.float64)).item()
    below = (1 + np.exp(-first)) * (1 + np.exp(-second))  # 1 / p
    assert joint == pytest.approx(-np.log(np.exp(-first) + np.exp(-second) + np.exp(-first - second)))
    assert 1 / (1 + np.exp(-joint)) == pytest.approx(1 / below)


def test_sampled_softmax_over_all_items_with_equal_shares_is_the_full_softmax() -> None:
    torch.manual_seed(3)
    users, items, numbers = torch.randn(5, DIM), torch.randn(5, DIM), torch.arange(5)
    expected = torch.nn.functional.cross_entropy(users @ items.T, numbers)
    torch.testing.assert_close(sampled_softmax(users, items, numbers, torch.full((5,), -1.6)), expected)
    task = (Task(name="v", kind="retrieval", label="n"),)
    torch.testing.assert_close(task_losses({"v": users}, {"n": numbers}, task, ItemVectors(items))["v"], expected)


def test_subtracting_log_q_makes_sampled_negatives_unbiased() -> None:
    # Items drawn by their popularity: over many batches the corrected gradient on the scores is that of the full softmax.
    draw = np.random.default_rng(0)
    q = np.array([0.6, 0.3, 0.1])
    scores = torch.zeros(3, requires_grad=True)
    for _ in range(200):
        numbers = torch.from_numpy(draw.choice(3, 64, p=q))
        loss = sampled_softmax(torch.ones(64, 1), scores[numbers].unsqueeze(1), numbers, torch.from_numpy(np.log(q))[numbers])
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    # Equal scores under the full softmax would pull each item up by its share less a third.
    assert scores.grad is not None
    expected = torch.softmax(torch.zeros(3), 0) - torch.from_numpy(q)
    pulled = scores.grad / 200
    assert torch.sign(pulled).tolist() == torch.sign(expected).tolist()


def test_the_same_item_in_another_row_is_no_negative() -> None:
    users, items = torch.eye(3), torch.tensor([[9.0, 0, 0], [9.0, 0, 0], [0, 0, 9.0]])
    same = sampled_softmax(users, items, torch.tensor([1, 1, 2]), torch.zeros(3))
    other = sampled_softmax(users, items, torch.tensor([1, 7, 2]), torch.zeros(3))
    assert same < other
