"""Reports of a running training: one for each epoch, the callbacks that receive them, and scalars for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@dataclass(frozen=True)
class EpochReport:
    """Results of one pass over the training range.

    Attributes:
        epoch: its number, from 1.
        steps: number of steps since the beginning of the training.
        train: mean loss of each task over the epoch's steps.
        validation: mean loss of each task on the validation range.
        metrics: task -> metric -> value on the validation range; empty unless training.stop_on is "metric".
        weights: weight of each task's loss, by the balance, at the end of the epoch.
        conflict: "a|b" -> mean cosine of the two tasks' gradients on the shared parameters, over the measured steps.
        seconds: duration, validation included.
        ms_per_step: mean milliseconds of a training step, without validation and saving.
        best: whether the weights of this epoch are the best so far.
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
class TrainingCallbacks:
    """Functions that a training calls in the leading process.

    Attributes:
        step: called with (steps done, maximum number of steps) after each step.
        epoch: called with the report after each epoch.
    """

    step: Callable[[int, int], None] = lambda done, steps: None
    epoch: Callable[[EpochReport], None] = lambda report: None


@contextmanager
def tensorboard_log(folder: Path | None, *, resumed: bool) -> Iterator[Callable[[EpochReport], None]]:
    """Yield a function that writes the values of an epoch into the folder of the run; None writes nothing.

    Unless the training is resumed, events of earlier trainings are removed.
    """
    if folder is None:
        yield lambda _: None
        return
    from torch.utils.tensorboard import SummaryWriter

    for old in [] if resumed else folder.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        yield lambda report: _write_scalars(writer, report)


def _write_scalars(writer: SummaryWriter, report: EpochReport) -> None:
    groups = {
        "loss_train": report.train,
        "loss_validation": report.validation,
        "weight": report.weights,
        "conflict": report.conflict,
    }
    groups |= {f"metric/{task}": values for task, values in report.metrics.items()}
    for group, values in groups.items():
        for name, value in values.items():
            writer.add_scalar(f"{group}/{name}", value, report.steps)
    writer.flush()
