"""The training loop: batches in a seeded order, a learning rate that rises and falls, the best weights kept.

The same data set, configuration, library versions and number of threads give the same weights, however often the training was
killed and resumed in between: the state on disk is that after a step, and what a step draws follows from its number.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.network import MultiTaskNetwork
from model.tasks import Task
from stream_app.errors import ConfigError
from stream_app.reporting.json_values import json_tree
from training.config import TrainingConfig
from training.data.batches import fingerprint
from training.data.dataset import Dataset
from training.evaluation.evaluate import evaluate_metrics
from training.evaluation.protocol import protocol_named
from training.fit.balancing import balance_from
from training.fit.batch_losses import BatchLosses
from training.fit.checks import check_dataset, check_losses, check_reached
from training.fit.distillation import with_teacher
from training.fit.distributed import Group, joined
from training.fit.resume import ALL_RANKS, WEIGHTS, check_same, load_state, save_state, seed_step
from training.fit.schedule import learning_rate, optimiser_for
from training.fit.spectral import start_items
from training.fit.stopping import EarlyStopping
from training.fit.tensorboard import TensorBoardLog

__all__ = ["EpochReport", "Trained", "TrainingEvents", "train"]

HISTORY_FILE: Final = "history.json"
CONFIG_FILE: Final = "config.json"


@dataclass(frozen=True)
class EpochReport:
    """One pass over the training range.

    Attributes:
        epoch: its number, from 1.
        steps: done since the beginning.
        train: mean loss of each task over the epoch's steps.
        validation: mean loss of each task on the validation range.
        metrics: task -> metric -> value on the validation range; empty unless they decide when to stop.
        weights: of each task's loss, by the balance, at the end.
        conflict: "a|b" -> mean cosine of the two tasks' gradients on the shared parameters, over the steps that were measured.
        seconds: that it took, validation included.
        ms_per_step: mean milliseconds of a training step, validation and saving excluded.
        best: whether its weights are the best so far.
    """

    epoch: int
    steps: int
    train: dict[str, float]
    validation: dict[str, float]
    metrics: dict[str, dict[str, float]]
    weights: dict[str, float]
    conflict: dict[str, float]
    seconds: float
    ms_per_step: float
    best: bool


@dataclass(frozen=True)
class Trained:
    """What a training ends with.

    Attributes:
        network: in evaluation mode, on the CPU, with the weights of its best epoch.
        tasks: that it was trained for, as they were configured.
        history: of all epochs.
    """

    network: MultiTaskNetwork
    tasks: tuple[Task, ...]
    history: list[EpochReport]


@dataclass(frozen=True)
class TrainingEvents:
    """What is told while a training runs, in the leading process only.

    Attributes:
        step: (steps done, steps at most) after each step.
        epoch: after each epoch.
    """

    step: Callable[[int, int], None] = lambda done, steps: None
    epoch: Callable[[EpochReport], None] = lambda report: None


def train(
    dataset: Dataset,
    config: TrainingConfig,
    run_folder: Path | None = None,
    events: TrainingEvents | None = None,
    *,
    resume: bool = False,
) -> Trained:
    """Train a network. The test range is not touched.

    Args:
        dataset: what to learn from.
        config: how.
        run_folder: where state, history, configuration and TensorBoard's events go; None keeps nothing.
        events: whom to tell.
        resume: whether to go on from the state in `run_folder`, if there is one.

    Raises:
        ContractError: The data cannot be learnt from, the state is of another training, or the losses are no numbers any more.
        ConfigError: The configuration names a task that the data set does not declare, or does not fit its rows.
    """
    tasks = config.chosen_tasks(dataset.tasks)
    check_dataset(dataset, tasks, judged=config.training.stop_on == "metric")
    dataset = with_teacher(dataset, tasks, config.training)
    with joined(config.training.device) as group:
        run = _Run(dataset, config, tasks, group, run_folder)
        if resume:
            run.restore()
        return run.to_the_end(events or TrainingEvents())


@dataclass
class _Progress:
    """Where a training is: all that changes beside tensors of network, optimiser and balance."""

    epoch: int = 0
    step: int = 0  # within the epoch
    seconds: float = 0.0  # of the epoch, up to the last state
    step_s: float = 0.0  # of those, in steps
    conflict: dict[str, list[float]] = field(default_factory=dict)  # "a|b" -> [sum of cosines, how many] in the epoch
    history: list[dict[str, Any]] = field(default_factory=list)


class _Run:
    """One training in one process."""

    def __init__(
        self, dataset: Dataset, config: TrainingConfig, tasks: tuple[Task, ...], group: Group, folder: Path | None
    ) -> None:
        self._dataset, self._config, self._options, self._tasks = dataset, config, config.training, tasks
        self._group, self._folder = group, folder
        seed_step(self._options.seed, WEIGHTS, ALL_RANKS)
        try:
            network = MultiTaskNetwork(config.network.shape, dataset.spec, tasks)
        except ValueError as err:
            raise ConfigError(f"the configuration {config.name} does not fit the data: {err}") from err
        self._rows = dataset.rows("train")
        if "dense" in dataset.inputs:
            network.fit_scaling(dataset.inputs["dense"][self._rows])
        if self._options.spectral_start:
            start_items(network, dataset, tasks, self._options.seed)
        self._network = network.to(group.device)
        self._balance = balance_from(self._options, tasks)
        self._balance.weighing.to(group.device)
        self._balance.average = self._balance.weighing.average = group.average if group.size > 1 else None
        self._optimiser = optimiser_for(self._network, list(self._balance.parameters()), self._options)
        self._losses = BatchLosses(self._network, dataset, tasks, self._options, group)
        self._per_epoch = max(1, math.ceil(len(self._rows) / self._options.batch))
        self._weights, self._shared = list(self._network.parameters()), self._network.shared_parameters()
        self._stopping = EarlyStopping(self._options.patience)
        self._best = _copied(self._network)
        self._at = _Progress()
        self._sums = torch.zeros(len(tasks), dtype=torch.float64, device=group.device)  # (T,) of the losses in the epoch
        self._saved_s = time.monotonic()

    def to_the_end(self, events: TrainingEvents) -> Trained:
        """Train from where it is."""
        steps = self._options.epochs * self._per_epoch
        begun = self._at.epoch + self._at.step > 0
        board = TensorBoardLog(self._folder if self._group.leads else None, begun=begun)
        try:
            while self._at.epoch < self._options.epochs and not self._stopping.over:
                began_s = time.monotonic() - self._at.seconds
                self._network.train()
                rows = np.random.default_rng([self._options.seed, self._at.epoch]).permutation(self._rows)
                while self._at.step < self._per_epoch:
                    self._timed_step(rows[self._at.step * self._options.batch :][: self._options.batch], steps)
                    self._at.step += 1
                    self._at.seconds = time.monotonic() - began_s
                    if self._group.leads:
                        events.step(self._at.epoch * self._per_epoch + self._at.step, steps)
                    if time.monotonic() - self._saved_s >= self._options.checkpoint_every_s:
                        self._save()
                report = self._close_epoch(began_s)
                if self._group.leads:
                    board.show(report)
                    events.epoch(report)
        finally:
            board.close()
        check_reached(self._tasks, self._at.history)
        self._network.load_state_dict(self._best)
        return Trained(self._network.cpu().eval(), self._tasks, [EpochReport(**report) for report in self._at.history])

    def _timed_step(self, rows: NDArray[np.int64], steps: int) -> None:
        began_s = time.monotonic()
        self._step(rows, steps)
        if self._group.device.type == "cuda" and self._at.step + 1 == self._per_epoch:
            torch.cuda.synchronize()  # what the GPU is still to do belongs to the epoch's steps
        self._at.step_s += time.monotonic() - began_s

    def _step(self, rows: NDArray[np.int64], steps: int) -> None:
        number, options, group = self._at.epoch * self._per_epoch + self._at.step, self._options, self._group
        for parameters in self._optimiser.param_groups:
            parameters["lr"] = options.learning_rate * learning_rate(number, steps, options.warm_up)
        # A batch smaller than the number of processes is seen by all of them as a whole.
        mine = rows[group.rank :: group.size] if len(rows) >= group.size else rows
        seed_step(options.seed, number, group.rank)
        losses, labels = self._losses.training(mine)
        losses = group.shared_losses(losses, labels, self._tasks)
        seed_step(options.seed, number, ALL_RANKS)  # what a balance draws is the same in all
        measure = options.conflict_every > 0 and number % options.conflict_every == 0 and len(self._tasks) > 1
        self._balance.backward(losses, self._shared, self._network, measure=measure)
        if options.largest_gradient > 0:
            nn.utils.clip_grad_norm_(self._weights, options.largest_gradient)
        self._optimiser.step()
        # Over all processes at once, so that the leader's state is everybody's.
        self._sums += group.average(torch.stack([loss.detach() for loss in losses.values()]))
        for pair, cosine in self._balance.conflict.items() if measure else ():
            total, count = self._at.conflict.get(pair, [0.0, 0])
            self._at.conflict[pair] = [total + cosine, count + 1]

    def _close_epoch(self, began_s: float) -> EpochReport:
        means = {task.name: float(value) / self._per_epoch for task, value in zip(self._tasks, self._sums, strict=True)}
        validation = self._losses.validation()
        at, of_validation = self._at.epoch + 1, {f"{name} (validation)": loss for name, loss in validation.items()}
        check_losses(means | of_validation, at, self._options)
        metrics = {}
        if self._options.stop_on == "metric":
            evaluation = self._config.evaluation
            protocol = protocol_named(evaluation.protocol, evaluation.neighbour_weight)
            metrics = evaluate_metrics(self._network, self._dataset, "validation", protocol, calibrations={})
            best = self._stopping.by_metrics(self._tasks, metrics)
        else:
            best = self._stopping.by_losses(self._tasks, validation)
        if best:
            self._best = _copied(self._network)
        weights = self._balance.weights()
        conflict = {pair: total / count for pair, (total, count) in self._at.conflict.items()}
        self._balance.epoch_ended(means)
        seconds, ms = time.monotonic() - began_s, 1_000 * self._at.step_s / self._per_epoch
        report = EpochReport(at, at * self._per_epoch, means, validation, metrics, weights, conflict, seconds, ms, best)
        self._at = _Progress(epoch=at, history=[*self._at.history, asdict(report)])
        self._sums.zero_()
        self._save()
        return report

    def _about(self) -> dict[str, Any]:
        return {"config": self._config.tree(), "processes": self._group.size, "data": fingerprint(self._dataset)}

    def _save(self) -> None:
        self._saved_s = time.monotonic()
        if self._folder is None or not self._group.leads:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        state = {
            "about": self._about(),
            "at": asdict(self._at),
            "sums": self._sums,
            "network": self._network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "balance": self._balance.state_dict(),
            "stopping": asdict(self._stopping),
            "best": self._best,
        }
        save_state(state, self._folder)
        (self._folder / CONFIG_FILE).write_text(json.dumps(self._config.tree(), indent=1) + "\n")
        (self._folder / HISTORY_FILE).write_text(json.dumps(json_tree(self._at.history), indent=1, allow_nan=False) + "\n")

    def restore(self) -> None:
        """Go on from the state in the folder, if there is one."""
        state = load_state(self._folder) if self._folder is not None else None
        if state is None or self._folder is None:
            return
        check_same(state["about"], self._about(), self._folder)
        self._network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._balance.load_state_dict(state["balance"])
        self._stopping = EarlyStopping(**state["stopping"])
        self._best = state["best"]
        self._at = _Progress(**state["at"])
        self._sums.copy_(state["sums"])


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}
