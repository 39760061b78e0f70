"""The training loop: seeded batches, warm-up and cosine learning rate, early stopping with the best weights.

The same data set, configuration, library versions and number of threads give the same weights, however often the training was
killed and resumed: the state on disk is the state after a step, and the random numbers of a step follow from its number.
"""

from __future__ import annotations

import json
import math
import time
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
from training.evaluation.evaluate import evaluate
from training.evaluation.protocol import protocol_named
from training.fit.balancing import balance_from
from training.fit.batch_losses import BatchLosses
from training.fit.checks import check_best_epoch, check_dataset, check_losses
from training.fit.distillation import with_soft_labels
from training.fit.distributed import ProcessGroup, process_group
from training.fit.progress import EpochReport, TrainingCallbacks, tensorboard_log
from training.fit.resume import ALL_RANKS, WEIGHTS, check_same, load_state, save_state, seed_step
from training.fit.schedule import learning_rate, optimiser_for
from training.fit.spectral import initialise_items
from training.fit.stopping import EarlyStopping

HISTORY_FILE: Final = "history.json"
CONFIG_FILE: Final = "config.json"


@dataclass(frozen=True)
class TrainedNetwork:
    """A network in evaluation mode, on the CPU, with the weights of its best epoch; its tasks, and the reports of all epochs."""

    network: MultiTaskNetwork
    tasks: tuple[Task, ...]
    history: list[EpochReport]


def train(
    dataset: Dataset,
    config: TrainingConfig,
    run_folder: Path | None = None,
    callbacks: TrainingCallbacks | None = None,
    *,
    resume: bool = False,
) -> TrainedNetwork:
    """Train a network. The test range is not used.

    State, history, configuration and TensorBoard's events are written to `run_folder`, if there is one; with `resume` the
    training continues from the state in it.

    Raises:
        ContractError: The data cannot be learnt from, the state belongs to another training, or a loss is not finite.
        ConfigError: The configuration names a task that the data set does not declare, or does not fit its rows.
    """
    tasks = config.chosen_tasks(dataset.tasks)
    check_dataset(dataset, tasks, needs_metrics=config.training.stop_on == "metric")
    dataset = with_soft_labels(dataset, tasks, config.training)
    with process_group(config.training.device) as group:
        training = _Training(dataset, config, tasks, group, run_folder)
        if resume:
            training.restore()
        return training.run(callbacks or TrainingCallbacks())


@dataclass
class _Progress:
    """Progress of a training: all state except the tensors of network, optimiser and balance."""

    epoch: int = 0
    step: int = 0  # within the epoch
    seconds: float = 0.0  # of the epoch
    step_s: float = 0.0  # of these, in steps
    conflict: dict[str, list[float]] = field(default_factory=dict)  # "a|b" -> [sum of cosines, count] in the epoch
    history: list[dict[str, Any]] = field(default_factory=list)


class _Training:
    """One training in one process."""

    def __init__(
        self, dataset: Dataset, config: TrainingConfig, tasks: tuple[Task, ...], group: ProcessGroup, folder: Path | None
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
            initialise_items(network, dataset, tasks, self._options.seed)
        self._network = network.to(group.device)
        self._balance = balance_from(self._options, tasks)
        self._balance.weighting.to(group.device)
        self._balance.average = self._balance.weighting.average = group.average if group.size > 1 else None
        self._optimiser = optimiser_for(self._network, list(self._balance.weighting.parameters()), self._options)
        self._losses = BatchLosses(self._network, dataset, tasks, self._options, group)
        self._per_epoch = max(1, math.ceil(len(self._rows) / self._options.batch))
        self._weights, self._shared = list(self._network.parameters()), self._network.shared_parameters()
        self._stopping = EarlyStopping(self._options.patience)
        self._best = _cpu_copy(self._network)
        self._progress = _Progress()
        self._sums = torch.zeros(len(tasks), dtype=torch.float64, device=group.device)  # (T,) of the losses in the epoch
        self._saved_s = time.monotonic()

    def run(self, callbacks: TrainingCallbacks) -> TrainedNetwork:
        """Train from the present state to the end."""
        steps = self._options.epochs * self._per_epoch
        resumed = self._progress.epoch + self._progress.step > 0
        with tensorboard_log(self._folder if self._group.is_leader else None, resumed=resumed) as write_scalars:
            while self._progress.epoch < self._options.epochs and not self._stopping.over:
                began_s = time.monotonic() - self._progress.seconds
                self._network.train()
                rows = np.random.default_rng([self._options.seed, self._progress.epoch]).permutation(self._rows)
                while self._progress.step < self._per_epoch:
                    self._timed_step(rows[self._progress.step * self._options.batch :][: self._options.batch], steps)
                    self._progress.step += 1
                    self._progress.seconds = time.monotonic() - began_s
                    if self._group.is_leader:
                        callbacks.step(self._progress.epoch * self._per_epoch + self._progress.step, steps)
                    if time.monotonic() - self._saved_s >= self._options.checkpoint_every_s:
                        self._save()
                report = self._close_epoch(began_s)
                if self._group.is_leader:
                    write_scalars(report)
                    callbacks.epoch(report)
        check_best_epoch(self._tasks, self._progress.history)
        self._network.load_state_dict(self._best)
        return TrainedNetwork(
            self._network.cpu().eval(), self._tasks, [EpochReport(**report) for report in self._progress.history]
        )

    def _timed_step(self, rows: NDArray[np.int64], steps: int) -> None:
        began_s = time.monotonic()
        self._step(rows, steps)
        if self._group.device.type == "cuda" and self._progress.step + 1 == self._per_epoch:
            torch.cuda.synchronize()  # pending work of the GPU belongs to the epoch's steps
        self._progress.step_s += time.monotonic() - began_s

    def _step(self, rows: NDArray[np.int64], steps: int) -> None:
        number, options, group = self._progress.epoch * self._per_epoch + self._progress.step, self._options, self._group
        for parameters in self._optimiser.param_groups:
            parameters["lr"] = options.learning_rate * learning_rate(number, steps, options.warm_up)
        # Every process takes the whole of a batch that is smaller than their number.
        mine = rows[group.rank :: group.size] if len(rows) >= group.size else rows
        seed_step(options.seed, number, group.rank)
        losses, labels = self._losses.training(mine)
        losses = group.shared_losses(losses, labels, self._tasks)
        seed_step(options.seed, number, ALL_RANKS)  # random numbers of a balance are the same in all processes
        measure = options.conflict_every > 0 and number % options.conflict_every == 0 and len(self._tasks) > 1
        self._balance.backward(losses, self._shared, self._network, measure=measure)
        if options.largest_gradient > 0:
            nn.utils.clip_grad_norm_(self._weights, options.largest_gradient)
        self._optimiser.step()
        # Averaged over all processes, so the state of the leader holds for all.
        self._sums += group.average(torch.stack([loss.detach() for loss in losses.values()]))
        for pair, cosine in self._balance.conflict.items() if measure else ():
            total, count = self._progress.conflict.get(pair, [0.0, 0])
            self._progress.conflict[pair] = [total + cosine, count + 1]

    def _close_epoch(self, began_s: float) -> EpochReport:
        means = {task.name: float(value) / self._per_epoch for task, value in zip(self._tasks, self._sums, strict=True)}
        validation = self._losses.validation()
        epoch, of_validation = self._progress.epoch + 1, {f"{name} (validation)": loss for name, loss in validation.items()}
        check_losses(means | of_validation, epoch, self._options)
        metrics = {}
        if self._options.stop_on == "metric":
            evaluation = self._config.evaluation
            protocol = protocol_named(evaluation.protocol, evaluation.neighbour_weight)
            metrics = evaluate(self._network, self._dataset, "validation", protocol, calibrations={}).metrics
            best = self._stopping.by_metrics(self._tasks, metrics)
        else:
            best = self._stopping.by_losses(self._tasks, validation)
        if best:
            self._best = _cpu_copy(self._network)
        weights = self._balance.weighting.weights()
        conflict = {pair: total / count for pair, (total, count) in self._progress.conflict.items()}
        self._balance.weighting.epoch_ended(means)
        seconds, ms = time.monotonic() - began_s, 1_000 * self._progress.step_s / self._per_epoch
        report = EpochReport(epoch, epoch * self._per_epoch, means, validation, metrics, weights, conflict, seconds, ms, best)
        self._progress = _Progress(epoch=epoch, history=[*self._progress.history, asdict(report)])
        self._sums.zero_()
        self._save()
        return report

    def _origin(self) -> dict[str, Any]:
        return {"config": self._config.tree(), "processes": self._group.size, "data": fingerprint(self._dataset)}

    def _save(self) -> None:
        self._saved_s = time.monotonic()
        if self._folder is None or not self._group.is_leader:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        state = {
            "about": self._origin(),
            "at": asdict(self._progress),
            "sums": self._sums,
            "network": self._network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "balance": self._balance.state_dict(),
            "stopping": asdict(self._stopping),
            "best": self._best,
        }
        save_state(state, self._folder)
        (self._folder / CONFIG_FILE).write_text(json.dumps(self._config.tree(), indent=1) + "\n")
        (self._folder / HISTORY_FILE).write_text(json.dumps(json_tree(self._progress.history), indent=1, allow_nan=False) + "\n")

    def restore(self) -> None:
        """Restore the state in the folder, if there is one."""
        state = load_state(self._folder) if self._folder is not None else None
        if state is None or self._folder is None:
            return
        check_same(state["about"], self._origin(), self._folder)
        self._network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._balance.load_state_dict(state["balance"])
        self._stopping = EarlyStopping(**state["stopping"])
        self._best = state["best"]
        self._progress = _Progress(**state["at"])
        self._sums.copy_(state["sums"])


def _cpu_copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}
