"""Balancing: each method against its formula, computed independently."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.network import MultiTaskNetwork
from model.tasks import Task
from stream_app.errors import ConfigError
from tests.unit.training.toy import config, table
from training.config import TrainingOptions
from training.fit.balancing import Balance, balance_from, torchjd_names
from training.fit.balancing.gradients import project_conflicts
from training.fit.balancing.loss_weighting import DynamicWeightAverage, GradNorm
from training.fit.batch_losses import BatchLosses
from training.fit.distributed import ProcessGroup

TASKS = tuple(Task(name=name, kind="binary", label=name, weight=weight) for name, weight in (("a", 1.0), ("b", 2.0), ("c", 0.5)))
EQUAL = tuple(Task(name=name, kind="binary", label=name) for name in "abc")


class Toy(nn.Module):
    """One shared matrix, and one vector of each task's own."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.shared = nn.Parameter(torch.randn(4, 3, generator=draw))
        self.own = nn.ParameterList(nn.Parameter(torch.randn(3, generator=draw)) for _ in range(3))
        self.unused = nn.Parameter(torch.zeros(2))
        self.x = torch.randn(5, 4, generator=draw)
        self.y = torch.randn(3, 5, generator=draw) * torch.tensor([[1.0], [3.0], [0.3]])

    def losses(self) -> dict[str, Tensor]:
        hidden = torch.tanh(self.x @ self.shared)
        return {name: ((hidden @ self.own[n] - self.y[n]) ** 2).mean() for n, name in enumerate("abc")}

    def gradients(self) -> np.ndarray[Any, Any]:
        """(T, P) of the shared matrix."""
        rows = [torch.autograd.grad(loss, self.shared, retain_graph=True)[0].flatten() for loss in self.losses().values()]
        return torch.stack(rows).numpy().astype(np.float64)


def balanced(toy: Toy, tasks: tuple[Task, ...] = EQUAL, **options: Any) -> Balance:
    balance = balance_from(TrainingOptions(**options), tasks)
    balance.backward(toy.losses(), [toy.shared], toy)
    return balance


def of_shared(toy: Toy) -> np.ndarray[Any, Any]:
    assert toy.shared.grad is not None
    return toy.shared.grad.flatten().numpy()


def test_fixed_weights_are_the_tasks_own() -> None:
    toy = Toy()
    balance = balanced(toy, TASKS)
    np.testing.assert_allclose(of_shared(toy), np.array([1.0, 2.0, 0.5]) @ toy.gradients(), rtol=1e-5)
    assert balance.weighting.weights() == {"a": 1.0, "b": 2.0, "c": 0.5}


@pytest.mark.parametrize("method", ["fixed", "uncertainty", "dwa", "gradnorm"])
def test_measuring_the_conflict_changes_no_gradient(method: str) -> None:
    unmeasured, measured = Toy(), Toy()
    balanced(unmeasured, TASKS, balance=method)
    balance = balance_from(TrainingOptions(balance=method), TASKS)
    balance.backward(measured.losses(), [measured.shared, measured.unused], measured, measure=True)
    for one, other in zip(unmeasured.parameters(), measured.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)
    rows = Toy().gradients()
    a, b = rows[0], rows[1]
    assert balance.conflict["a|b"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-5)
    assert set(balance.conflict) == {"a|b", "a|c", "b|c"}


def test_uncertainty_is_kendalls_formula_and_learns_its_variances() -> None:
    toy = Toy()
    balance = balance_from(TrainingOptions(balance="uncertainty"), TASKS)
    [variance] = list(balance.weighting.parameters())
    with torch.no_grad():
        variance.copy_(torch.tensor([0.5, -1.0, 0.0]))
    balance.backward(toy.losses(), [toy.shared], toy)
    s = np.array([0.5, -1.0, 0.0])
    losses = np.array([loss.item() for loss in toy.losses().values()])
    np.testing.assert_allclose(of_shared(toy), np.exp(-s) @ toy.gradients(), rtol=1e-5)
    assert variance.grad is not None
    np.testing.assert_allclose(variance.grad.numpy(), -np.exp(-s) * losses + 0.5, rtol=1e-5)


@pytest.mark.parametrize("bound", [0.0, 1e6])
def test_a_task_without_labels_keeps_its_variance_unless_another_process_has_some(bound: float) -> None:
    toy = Toy()
    balance = balance_from(TrainingOptions(balance="uncertainty", max_norm_bound=bound), EQUAL)
    [variance] = list(balance.weighting.parameters())
    balance.backward(toy.losses() | {"b": toy.losses()["b"] * 0.0}, [toy.shared], toy)
    assert variance.grad is not None
    assert variance.grad[1] == 0.0
    assert (variance.grad[[0, 2]] != 0.0).all()
    balance.weighting.average = torch.ones_like  # one of the others has labels of all
    balance.backward(toy.losses() | {"b": toy.losses()["b"] * 0.0}, [toy.shared], toy)
    assert variance.grad[1] == 0.5


def test_uncertainty_learns_the_same_with_single_gradients() -> None:
    unmeasured, single = Toy(), Toy()
    [one] = list(balanced(unmeasured, balance="uncertainty").weighting.parameters())
    [other] = list(balanced(single, balance="uncertainty", max_norm_bound=1e6).weighting.parameters())
    assert one.grad is not None
    torch.testing.assert_close(one.grad, other.grad)


def test_the_dynamic_weight_average_is_lius_formula() -> None:
    weighting = DynamicWeightAverage("ab", temperature=2.0)
    weighting.epoch_ended({"a": 4.0, "b": 1.0})
    assert weighting.weights() == {"a": 1.0, "b": 1.0}
    weighting.epoch_ended({"a": 2.0, "b": 0.9})
    shares = np.exp(np.array([2.0 / 4.0, 0.9 / 1.0]) / 2.0)
    expected = 2 * shares / shares.sum()
    assert list(weighting.weights().values()) == pytest.approx(expected)
    assert weighting.weigh({"a": torch.tensor(1.0), "b": torch.tensor(1.0)})["b"].item() == pytest.approx(expected[1])
    weighting.epoch_ended({"a": 0.0, "b": 0.5})
    weighting.epoch_ended({"a": 0.0, "b": 0.4})  # 0 / 0
    assert sum(weighting.weights().values()) == pytest.approx(2.0)


def test_gradnorms_weights_follow_autograd_and_sum_to_the_number_of_tasks() -> None:
    alpha, rate = 1.5, 0.05
    weighting = GradNorm("abc", alpha, rate)
    first, losses = np.array([2.0, 3.0, 1.0]), np.array([1.0, 2.9, 0.2])
    norms = np.array([0.5, 4.0, 1.0])
    weighting.observe(dict(zip("abc", first, strict=True)), dict(zip("abc", [1.0, 1.0, 1.0], strict=True)))
    before = torch.tensor(list(weighting.weights().values()), dtype=torch.float64, requires_grad=True)
    weighting.observe(dict(zip("abc", losses, strict=True)), dict(zip("abc", norms, strict=True)))

    raw = torch.tensor(norms) / before.detach()  # norms come with the weights in them
    ratio = torch.tensor(losses / first / (losses / first).mean())
    target = (before.detach() * raw).mean() * ratio**alpha
    (before * raw - target).abs().sum().backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    assert before.grad is not None
    moved = (before - rate * before.grad).detach()
    expected = (3 * moved / moved.sum()).tolist()
    assert list(weighting.weights().values()) == pytest.approx(expected, rel=1e-5)
    assert sum(weighting.weights().values()) == pytest.approx(3.0)


def test_gradnorm_brings_the_norms_of_the_gradients_together() -> None:
    toy = Toy()
    balance = balance_from(TrainingOptions(balance="gradnorm", gradnorm_alpha=0.0, gradnorm_rate=0.003), EQUAL)
    norms = np.linalg.norm(toy.gradients(), axis=1)
    for _ in range(1_500):
        balance.backward(toy.losses(), [toy.shared], toy)
    weighed = norms * np.array(list(balance.weighting.weights().values()))
    assert weighed.max() / weighed.min() < 1.1 < norms.max() / norms.min()
    assert sum(balance.weighting.weights().values()) == pytest.approx(3.0)


def test_a_task_without_labels_keeps_its_weight_under_gradnorm() -> None:
    weighting = GradNorm("abc", 1.5, 0.1)
    weighting.observe({"a": 1.0, "b": 2.0, "c": 0.0}, {"a": 1.0, "b": 3.0, "c": 0.0})
    assert np.isfinite(list(weighting.weights().values())).all()
    assert torch.isnan(weighting.first[2])  # its first loss is still to come
    weighting.observe({"a": 0.0, "b": 2.0, "c": 0.0}, {"a": 0.0, "b": 3.0, "c": 0.0})
    assert sum(weighting.weights().values()) == pytest.approx(3.0)


def surgery(gradients: np.ndarray[Any, Any], orders: list[list[int]]) -> np.ndarray[Any, Any]:
    """Algorithm 1 of Yu et al. (2020), as printed."""
    done = []
    for i, order in enumerate(orders):
        g = gradients[i].copy()
        for j in order:
            if j != i and g @ gradients[j] < 0:
                g -= (g @ gradients[j]) / (gradients[j] @ gradients[j]) * gradients[j]
        done.append(g)
    total: np.ndarray[Any, Any] = np.stack(done).sum(axis=0)
    return total


@pytest.mark.parametrize("seed", range(5))
def test_pcgrad_is_the_printed_algorithm(seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(4, 6))
    torch.manual_seed(seed)
    orders = [torch.randperm(4).tolist() for _ in range(4)]
    torch.manual_seed(seed)
    np.testing.assert_allclose(project_conflicts(torch.from_numpy(rows)).numpy(), surgery(rows, orders), rtol=1e-9, atol=1e-12)


def test_pcgrad_of_two_opposed_gradients_hurts_neither_and_of_agreeing_ones_is_the_sum() -> None:
    opposed = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    step = project_conflicts(opposed)
    assert (opposed @ step >= -1e-6).all()
    agreeing = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(project_conflicts(agreeing), agreeing.sum(dim=0))


def test_a_bound_cuts_each_task_by_itself_and_not_its_own_parameters() -> None:
    toy, free = Toy(), Toy()
    rows = toy.gradients()
    bound = float(np.median(np.linalg.norm(rows, axis=1)))
    balanced(toy, max_norm_bound=bound)
    balanced(free)
    cut = rows * np.minimum(1.0, bound / np.linalg.norm(rows, axis=1))[:, None]
    assert not np.allclose(cut, rows)
    np.testing.assert_allclose(of_shared(toy), cut.sum(axis=0), rtol=1e-5)
    for one, other in zip(toy.own, free.own, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("method", ["uncertainty", "dwa", "gradnorm", "pcgrad", "torchjd:imtlg", "torchjd:sum"])
def test_a_bound_goes_with_every_balance(method: str) -> None:
    toy = Toy()
    balanced(toy, balance=method, max_norm_bound=1e-3)
    assert 0 < np.linalg.norm(of_shared(toy)) <= 3.1e-3


def test_the_mean_of_torchjd_is_fixed_with_equal_weights() -> None:
    fixed, mean = Toy(), Toy()
    third = tuple(Task(name=name, kind="binary", label=name, weight=1 / 3) for name in "abc")
    balanced(fixed, third)
    balanced(mean, balance="torchjd:mean")
    np.testing.assert_allclose(of_shared(mean), of_shared(fixed), rtol=1e-5)


@pytest.mark.parametrize("name", torchjd_names())
def test_every_aggregator_of_torchjd_gives_a_step_of_finite_numbers(name: str) -> None:
    toy = Toy()
    torch.manual_seed(0)
    balance = balanced(toy, balance=f"torchjd:{name}")
    assert np.isfinite(of_shared(toy)).all()
    assert toy.unused.grad is None
    other = balance_from(TrainingOptions(balance=f"torchjd:{name}"), EQUAL)
    other.load_state_dict(balance.state_dict())
    again, on = Toy(), Toy()
    for going, how in ((again, balance), (on, other)):
        torch.manual_seed(1)
        how.backward(going.losses(), [going.shared], going)
    np.testing.assert_array_equal(of_shared(again), of_shared(on))


def test_a_task_without_labels_does_not_stop_the_others() -> None:
    for name in ("mgda", "alignedmtl"):
        toy = Toy()
        losses = toy.losses()
        losses["c"] = losses["c"] * 0.0
        balance_from(TrainingOptions(balance=f"torchjd:{name}"), EQUAL).backward(losses, [toy.shared], toy)
        assert np.abs(of_shared(toy)).sum() > 0


def test_an_unknown_aggregator_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"torchjd:upgrade: .* did you mean upgrad\?"):
        balance_from(TrainingOptions(balance="torchjd:upgrade"), EQUAL)


@pytest.mark.parametrize("condition", ["", "first"])
@pytest.mark.parametrize("sharing", ["shared_bottom", "mmoe", "ple", "star", "single"])
def test_shared_parameters_are_those_that_two_losses_reach(sharing: str, condition: str) -> None:
    dataset = table(scenes=2)
    options = config(network__sharing=sharing)
    tasks = tuple(replace(task, given=condition if task.given else "") for task in dataset.tasks)
    torch.manual_seed(0)
    network = MultiTaskNetwork(options.network.shape, dataset.spec, tasks)
    losses, _ = BatchLosses(network, dataset, tasks, options.training, ProcessGroup(0, 1, torch.device("cpu"))).training(
        dataset.rows("train")[:64]
    )
    parameters = dict(network.named_parameters())
    reached = dict.fromkeys(parameters, 0)
    for loss in losses.values():
        gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            reached[name] += gradient is not None and bool(gradient.any())
    shared = {id(parameter) for parameter in network.shared_parameters()}
    assert {name for name, parameter in parameters.items() if id(parameter) in shared} == {n for n, c in reached.items() if c > 1}
    assert bool(shared) == (sharing != "single" or condition != "")
