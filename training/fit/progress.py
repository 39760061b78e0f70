"""Reports of a running training: one for each epoch, and the callbacks that receive them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
