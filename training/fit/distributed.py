"""Data-parallel training in several processes: `torchrun --nproc-per-node N -m training ...`.

Each process takes its share of every batch; gradients are averaged before the step, so all processes hold the same weights.
Losses are scaled so that the average over processes is the mean over all rows of the batch with a known label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from model.tasks import Task
from stream_app.errors import ConfigError
from training.data.dataset import UNKNOWN


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a training, or the only one: number and device of this process, and how many there are."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_leader(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def average(self, values: Tensor) -> Tensor:
        """Average `values` over all processes, in place; return them."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def total(self, values: Tensor) -> Tensor:
        """Sum `values` over all processes, in place; return them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def shared_losses(
        self, losses: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: Sequence[Task]
    ) -> dict[str, Tensor]:
        """Return the losses scaled so that their average over processes is the mean over the whole batch."""
        if self.size == 1:
            return dict(losses)
        known = torch.stack([(labels[task.label] != UNKNOWN).sum() for task in tasks]).float()  # (T,)
        share = known * self.size / self.total(known.clone()).clamp(min=1)
        return {task.name: losses[task.name] * share[number] for number, task in enumerate(tasks)}


def refuse_torchrun(what: str) -> None:
    """Refuse a command that runs in one process only.

    Raises:
        ConfigError: `torchrun` started this process.
    """
    if dist.is_available() and dist.is_torchelastic_launched():
        raise ConfigError(f"{what}: each process of torchrun would do all of it; start it without torchrun")


@contextmanager
def process_group(device: str) -> Iterator[ProcessGroup]:
    """Join the processes that `torchrun` started, while the block runs; without torchrun, yield a group of one process.

    Raises:
        ConfigError: `device` is `cuda`, and there is no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device = 'cuda': torch finds no GPU here; set training.device to auto or cpu")
    launched = dist.is_available() and dist.is_torchelastic_launched()
    gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if not launched:
        yield ProcessGroup(0, 1, torch.device("cuda" if gpu else "cpu"))
        return
    must_init = not dist.is_initialized()
    if must_init:
        dist.init_process_group("nccl" if gpu else "gloo")
    try:
        rank = dist.get_rank()
        own_device = torch.device("cuda", dist.get_node_local_rank()) if gpu else torch.device("cpu")
        if gpu:
            torch.cuda.set_device(own_device)
        yield ProcessGroup(rank, dist.get_world_size(), own_device)
    finally:
        if must_init:
            dist.destroy_process_group()
