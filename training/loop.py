"""The training loop: batches in a seeded order, a learning rate that rises and falls, the best weights kept.

The same data set, plan, seed, library versions and number of threads give the same weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.contract import INPUTS
from model.network import MultiTaskNetwork
from model.presets import PRESETS
from training.balancing import balancing
from training.dataset import Dataset
from training.labels import UNKNOWN
from training.losses import TASKS, task_losses
from training.plan import TrainingPlan

__all__ = ["EpochReport", "batches", "fit_scaling", "popularity_log", "train"]

_WARM_UP_SHARE: Final = 0.05  # of all steps, while the learning rate rises
_LARGEST_GRADIENT: Final = 5.0
_VALIDATION_BATCH: Final = 4_096
_LEAST_LOSS: Final = 1e-6
_LEAST_SPREAD: Final = 0.1  # in log units: a feature that is nearly always the same must not be blown up
_SPREADS_IN_RANGE: Final = 1.35  # interquartile range of a normal distribution, in standard deviations


@dataclass(frozen=True)
class EpochReport:
    """One pass over the training range: mean losses by task on it and on the validation range."""

    epoch: int
    steps: int
    train: dict[str, float]
    validation: dict[str, float]
    best: bool


def train(
    dataset: Dataset, plan: TrainingPlan, progress: Callable[[int, int], None], report: Callable[[EpochReport], None]
) -> MultiTaskNetwork:
    """Train a network and return it in evaluation mode, with the weights of its best epoch.

    Args:
        dataset: what to learn from; the test range is not touched.
        plan: how.
        progress: told (steps done, steps at most) after each step.
        report: told after each epoch.
    """
    torch.manual_seed(plan.seed)
    network = MultiTaskNetwork(PRESETS[plan.preset], len(dataset.feature_names))
    fit_scaling(network, dataset)
    balance = balancing(plan.balance, plan.weights)
    optimiser = torch.optim.AdamW(
        [*network.parameters(), *balance.parameters()], lr=plan.learning_rate, weight_decay=plan.weight_decay
    )
    log_q = popularity_log(dataset)
    rows, order = dataset.rows("train"), np.random.default_rng(plan.seed)
    per_epoch = math.ceil(len(rows) / plan.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, per_epoch * plan.epochs))
    best, best_weights, waited = math.inf, copy.deepcopy(network.state_dict()), 0
    first: dict[str, float] = {}
    for epoch in range(plan.epochs):
        network.train()
        sums = dict.fromkeys(TASKS, 0.0)
        for step, (inputs, labels) in enumerate(batches(dataset, order.permutation(rows), plan.batch)):
            losses = _losses(network, dataset, inputs, labels, log_q, plan)
            optimiser.zero_grad(set_to_none=True)
            balance(losses).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
            optimiser.step()
            schedule.step()
            for task, loss in losses.items():
                sums[task] += loss.item()
            progress(epoch * per_epoch + step + 1, per_epoch * plan.epochs)
        validation = _validation_losses(network, dataset, log_q, plan)
        # Each task against its own first epoch: else the one with the largest numbers, retrieval, would choose alone.
        first = first or {task: max(loss, _LEAST_LOSS) for task, loss in validation.items()}
        total = sum(plan.weights[task] * validation[task] / first[task] for task in TASKS)
        improved, waited = (total < best), (0 if total < best else waited + 1)
        if improved:
            best, best_weights = total, copy.deepcopy(network.state_dict())
        means = {task: value / per_epoch for task, value in sums.items()}
        report(EpochReport(epoch + 1, (epoch + 1) * per_epoch, means, validation, improved))
        if waited >= plan.patience:
            break
    network.load_state_dict(best_weights)
    return network.eval()


def batches(dataset: Dataset, rows: NDArray[np.int64], size: int) -> Iterator[tuple[tuple[Tensor, ...], dict[str, Tensor]]]:
    """Yield (inputs in the order of `contract.INPUTS`, labels by name as int64) for `rows`, `size` at a time."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        inputs = tuple(torch.from_numpy(dataset.inputs[spec.name][part]) for spec in INPUTS)
        yield inputs, {name: torch.from_numpy(value[part].astype(np.int64)) for name, value in dataset.labels.items()}


def fit_scaling(network: MultiTaskNetwork, dataset: Dataset) -> None:
    """Set the dense encoder's medians and spreads from the training range."""
    values = dataset.inputs["dense"][dataset.rows("train")].astype(np.float64)
    values = np.sign(values) * np.log1p(np.abs(values))  # as the encoder does
    low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
    # Most counts are zero most of the time, so that their quartiles agree; then the standard deviation has to do.
    spread = np.maximum((high - low) / _SPREADS_IN_RANGE, values.std(axis=0) / 2)
    network.dense.median.copy_(_tensor(middle))
    network.dense.spread.copy_(_tensor(np.maximum(spread, _LEAST_SPREAD)))


def popularity_log(dataset: Dataset) -> Tensor:
    """Return (M,) float32: log of each item's share of the training range's next items, add-one smoothed."""
    items = dataset.labels["next_item"][dataset.rows("train")]
    counts = np.bincount(items[items != UNKNOWN], minlength=len(dataset.table.ids)) + 1.0
    return _tensor(np.log(counts / counts.sum()))


def _losses(
    network: MultiTaskNetwork,
    dataset: Dataset,
    inputs: tuple[Tensor, ...],
    labels: dict[str, Tensor],
    log_q: Tensor,
    plan: TrainingPlan,
) -> dict[str, Tensor]:
    numbers = labels["next_item"].clamp(min=0)
    items = torch.from_numpy(dataset.table.items)[numbers]
    categories = torch.from_numpy(dataset.table.categories)[numbers]
    vectors = network.item_vectors(items, categories)  # (B, D)
    return task_losses(network(*inputs), labels, vectors, log_q[numbers], plan.fraud_weight)


@torch.no_grad()
def _validation_losses(network: MultiTaskNetwork, dataset: Dataset, log_q: Tensor, plan: TrainingPlan) -> dict[str, float]:
    network.eval()
    rows = dataset.rows("validation")
    # In one seeded shuffle, so that every batch holds rows of every shop and sampled softmax means the same each time.
    rows = np.random.default_rng(0).permutation(rows)
    sums, count = dict.fromkeys(TASKS, 0.0), 0
    for inputs, labels in batches(dataset, rows, _VALIDATION_BATCH):
        for task, loss in _losses(network, dataset, inputs, labels, log_q, plan).items():
            sums[task] += loss.item()
        count += 1
    return {task: value / max(1, count) for task, value in sums.items()}


def _rate(step: int, steps: int) -> float:
    warm = max(1, int(steps * _WARM_UP_SHARE))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
