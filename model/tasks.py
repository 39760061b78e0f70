"""Tasks: a network's prediction targets. Losses, heads, metrics and reports read one declaration. Free of torch.

A label of -1 is unknown: neither the task's loss nor its metrics count the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["binary", "classes", "retrieval"]

DEFAULT_METRICS: Final[Mapping[str, str]] = {"binary": "auc", "classes": "accuracy", "retrieval": "recall_at_20"}
_CALIBRATIONS: Final = ("none", "temperature", "isotonic")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A prediction target of a row, with its training and its evaluation.

    Attributes:
        name: key of the network's outputs; a Python identifier.
        kind: `binary` has one logit, `classes` a logit for each class, `retrieval` a vector to compare with item vectors.
        label: key of `Dataset.labels`: 0 or 1; a class's number; an item's number. -1 = unknown.
        classes: names of the classes, for kind `classes`.
        weight: of the task's loss where balancing is fixed, and in the sum that decides early stopping.
        positive_weight: of a positive row relative to a negative row, for kind `binary`. Probabilities undo it.
        class_weights: of each class's rows, for kind `classes`; empty = all 1. Probabilities do not undo them.
        given: for kind `binary`, the name of another binary task without `given`: the probability is then
            p(given) * sigmoid(own logit), so a conversion is learnt over all impressions and is never likelier than its click
            (ESMM: Ma et al., "Entire Space Multi-Task Model", SIGIR 2018). `label` says whether both happened.
        metric: key of the task's metrics; decides early stopping and search. By default `DEFAULT_METRICS` of the kind.
        calibration: fitted on the validation range.
    """

    name: str
    kind: Kind
    label: str
    classes: tuple[str, ...] = ()
    weight: float = 1.0
    positive_weight: float = 1.0
    class_weights: tuple[float, ...] = ()
    given: str = ""
    metric: str = ""
    calibration: Literal["none", "temperature", "isotonic"] = "none"

    def __post_init__(self) -> None:
        """Fill in the metric."""
        if not self.metric:
            object.__setattr__(self, "metric", DEFAULT_METRICS.get(self.kind, ""))


# Tasks of a shop's events. `model.contract.OUTPUTS` are served; conversion is trained and reported only.
SHOP_TASKS: Final[tuple[Task, ...]] = (
    Task(name="fraud", kind="binary", label="fraud", weight=2.0, positive_weight=5.0, metric="average_precision"),
    # Classes as `stream_app.events.INTENTS` and `NEXT_ACTIONS` (a test compares them: this package imports nothing above it).
    Task(name="intent", kind="classes", label="intent", classes=("buy", "look", "return", "other")),
    Task(
        name="next_action",
        kind="classes",
        label="next_action",
        classes=("search", "view", "click", "cart", "favourite", "order", "leave"),
    ),
    Task(name="click", kind="binary", label="click", weight=0.5),
    Task(name="conversion", kind="binary", label="conversion", given="click"),
    Task(name="user_vector", kind="retrieval", label="next_item"),
)


def check_tasks(tasks: Sequence[Task]) -> None:
    """Check that tasks fit together.

    Raises:
        ValueError: All problems, one sentence each, with the task's name and the fix.
    """
    wrong = [] if tasks else ["no task: declare one at least"]
    names = [task.name for task in tasks]
    wrong += [f"task {name}: declared {names.count(name)} times; once is enough" for name in set(names) if names.count(name) > 1]
    retrieval = [task.name for task in tasks if task.kind == "retrieval"]
    wrong += [f"tasks {', '.join(retrieval)}: {len(retrieval)} of kind retrieval; keep one"] if len(retrieval) > 1 else []
    by_name = {task.name: task for task in tasks}
    for task in tasks:
        wrong += [f"task {task.name}: {sentence}" for sentence in _faults(task, by_name)]
    if wrong:
        raise ValueError("; ".join(wrong))


def _faults(task: Task, by_name: Mapping[str, Task]) -> list[str]:
    faults = [] if task.name.isidentifier() else ["its name is no identifier; use letters, digits and _"]
    if task.kind not in DEFAULT_METRICS:
        return [*faults, f"kind {task.kind!r} is none of {', '.join(DEFAULT_METRICS)}"]
    if task.calibration not in _CALIBRATIONS:
        faults.append(f"calibration {task.calibration!r} is none of {', '.join(_CALIBRATIONS)}")
    if min(task.weight, task.positive_weight, *task.class_weights, 1.0) < 0 or task.positive_weight == 0:
        faults.append("a weight is below zero, or positive_weight is 0; give positive numbers")
    if task.positive_weight != 1.0 and (task.kind != "binary" or task.given):
        faults.append(f"positive_weight {task.positive_weight:g} is for binary tasks without `given`; leave it at 1")
    if task.kind == "classes" and len(task.classes) < 2:
        faults.append(f"kind classes with {len(task.classes)} class names; give two at least")
    if task.class_weights and len(task.class_weights) != len(task.classes):
        faults.append(f"{len(task.class_weights)} class_weights for {len(task.classes)} classes; give one for each")
    given = by_name.get(task.given)
    if task.given and (task.kind != "binary" or given is None or given.kind != "binary" or given.given):
        faults.append(f"given {task.given!r} must be a declared binary task without `given`, and {task.name} binary itself")
    return faults


def tasks_from_json(values: Sequence[Mapping[str, Any]]) -> tuple[Task, ...]:
    """Invert `dataclasses.asdict` of tasks, also after JSON has turned tuples into lists."""
    rows: list[dict[str, Any]] = [{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()} for row in values]
    return tuple(Task(**row) for row in rows)
