"""Several processes that train one network: `torchrun --nproc-per-node N -m training ...`.

Each takes its share of every batch, and gradients are averaged before they are applied, so that all hold the same weights.
Losses are scaled so that the average over processes is the mean over all known rows of the batch, however they are spread.
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

__all__ = ["Group", "joined", "refuse_torchrun"]


@dataclass(frozen=True)
class Group:
    """The processes of a training.

    Attributes:
        rank: number of this process.
        size: number of processes.
        device: what this process computes on.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def average(self, values: Tensor) -> Tensor:
        """Return the mean of `values` over all processes; in place, the same in each."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over all processes; in place, the same in each."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def shared_losses(
        self, losses: Mapping[str, Tensor], labels: Mapping[str, Tensor], tasks: Sequence[Task]
    ) -> dict[str, Tensor]:
        """Return the losses scaled so that their average over processes is the mean over the whole batch."""
        if self.size == 1:
            return dict(losses)
        here = torch.stack([(labels[task.label] != UNKNOWN).sum() for task in tasks]).float()  # (T,)
        share = here * self.size / self.total(here.clone()).clamp(min=1)
        return {task.name: losses[task.name] * share[number] for number, task in enumerate(tasks)}


def refuse_torchrun(what: str) -> None:
    """Refuse to do in each of several processes what is for one.

    Raises:
        ConfigError: `torchrun` started this process.
    """
    if dist.is_available() and dist.is_torchelastic_launched():
        raise ConfigError(f"{what}: each process of torchrun would do all of it; start it without torchrun")


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Join the processes that `torchrun` started, for as long as the block runs; alone if it did not.

    Args:
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ConfigError: `cuda`, and there is no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device = 'cuda': torch finds no GPU here; set training.device to auto or cpu")
    many = dist.is_available() and dist.is_torchelastic_launched()
    gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if not many:
        yield Group(0, 1, torch.device("cuda" if gpu else "cpu"))
        return
    began = not dist.is_initialized()
    if began:
        dist.init_process_group("nccl" if gpu else "gloo")
    try:
        rank = dist.get_rank()
        here = torch.device("cuda", dist.get_node_local_rank()) if gpu else torch.device("cpu")
        if gpu:
            torch.cuda.set_device(here)
        yield Group(rank, dist.get_world_size(), here)
    finally:
        if began:
            dist.destroy_process_group()
