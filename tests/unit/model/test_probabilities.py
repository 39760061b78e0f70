"""Probabilities: weights taken back, a conversion never likelier than its click, temperatures."""

from __future__ import annotations

import torch

from model.probabilities import probabilities
from model.tasks import Task

CLICK = Task(name="click", kind="binary", label="click", positive_weight=4.0)
BUY = Task(name="buy", kind="binary", label="buy", given="click")
SIDE = Task(name="side", kind="classes", label="side", classes=("x", "y", "z"))
NEXT = Task(name="next", kind="retrieval", label="next")


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_the_weight_of_positives_is_taken_back_from_the_odds() -> None:
    logit = draw(50)
    found = probabilities({"click": logit}, [CLICK])["click"]
    torch.testing.assert_close(found / (1 - found), torch.exp(logit) / 4.0)


def test_a_task_that_is_given_another_answers_the_chance_of_both() -> None:
    logits = {"click": draw(50), "buy": draw(50) * 2}
    found = probabilities(logits, [BUY, CLICK])
    assert list(found) == ["buy", "click"]
    torch.testing.assert_close(found["buy"], found["click"] * torch.sigmoid(logits["buy"]))
    assert bool((found["buy"] <= found["click"]).all())


def test_classes_sum_to_one_and_a_vector_is_as_it_was() -> None:
    logits = {"side": draw(20, 3), "next": draw(20, 5)}
    found = probabilities(logits, [SIDE, NEXT], {"next": 3.0})
    torch.testing.assert_close(found["side"].sum(dim=1), torch.ones(20, dtype=torch.float64))
    assert torch.equal(found["next"], logits["next"])


def test_a_temperature_divides_the_logit_whose_weight_is_taken_back() -> None:
    logits = {"click": draw(20), "side": draw(20, 3)}
    found = probabilities(logits, [CLICK, SIDE], {"click": 2.0, "side": 0.5})
    cold = torch.sigmoid((logits["click"] - torch.log(torch.tensor(4.0, dtype=torch.float64))) / 2.0)
    torch.testing.assert_close(found["click"], cold)
    torch.testing.assert_close(found["side"], torch.softmax(logits["side"] * 2.0, dim=1))
