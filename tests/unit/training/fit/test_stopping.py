"""Early stopping: each task is set against its own first epoch."""

from __future__ import annotations

import math

from model.tasks import Task
from training.fit.stopping import EarlyStopping

TASKS = (
    Task(name="a", kind="binary", label="a", metric="auc"),
    Task(name="b", kind="classes", label="b", classes=("x", "y"), metric="log_loss"),
)


def test_a_task_with_large_losses_does_not_choose_alone() -> None:
    stopping = EarlyStopping(patience=2)
    assert stopping.by_losses(TASKS, {"a": 0.1, "b": 10.0})
    assert stopping.by_losses(TASKS, {"a": 0.05, "b": 11.0})  # half of a is more than a tenth of b
    assert not stopping.by_losses(TASKS, {"a": 0.08, "b": 9.5})
    assert not stopping.over
    assert not stopping.by_losses(TASKS, {"a": 0.08, "b": 9.5})
    assert stopping.over


def test_metrics_count_in_their_own_direction() -> None:
    stopping = EarlyStopping(patience=9)
    assert stopping.by_metrics(TASKS, {"a": {"auc": 0.6}, "b": {"log_loss": 0.6}})
    assert stopping.by_metrics(TASKS, {"a": {"auc": 0.6}, "b": {"log_loss": 0.5}})
    assert stopping.by_metrics(TASKS, {"a": {"auc": 0.7}, "b": {"log_loss": 0.5}})
    assert not stopping.by_metrics(TASKS, {"a": {"auc": 0.7}, "b": {"log_loss": 0.7}})


def test_a_metric_counts_from_its_first_finite_value() -> None:
    stopping = EarlyStopping(patience=9)
    assert not stopping.by_metrics(TASKS, {"a": {"auc": math.nan}, "b": {"log_loss": 0.6}})
    assert stopping.by_metrics(TASKS, {"a": {"auc": 0.6}, "b": {"log_loss": 0.6}})
    assert stopping.by_metrics(TASKS, {"a": {"auc": 0.7}, "b": {"log_loss": 0.6}})


def test_nan_is_never_the_best() -> None:
    stopping = EarlyStopping(patience=1)
    assert not stopping.by_losses(TASKS, {"a": math.nan, "b": 1.0})
    assert stopping.over
