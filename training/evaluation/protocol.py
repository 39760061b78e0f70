"""Evaluation protocols: which rows are evaluated, which items are candidates, which metrics are counted.

Without torch: baselines and other models are evaluated by the same functions as the network.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.inputs import SequenceInputs
from model.tasks import Task
from stream_app.errors import ConfigError, ContractError
from stream_app.evaluation import metrics as figure
from stream_app.evaluation.card_precision import card_precision_at, known_compromised
from training.data.dataset import UNKNOWN, Dataset
from training.evaluation.metrics import RANKS, is_metric_of, rejection_threshold

OUT_OF_SCOPE: Final = "out_of_scope"  # a label: 1 for rows of none of the classes; their class label is unknown
OUTSIDE: Final = ("oos", "out_of_scope")  # names of a class with this meaning
_DAY_MS: Final = 86_400_000

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """How a protocol evaluates; `training.data.splitting` has how it splits.

    Attributes:
        exclude_seen: whether the items of a row's own sequence are left out.
        card_budget: cards that can be reviewed per day; 0 for no metric of cards. `Dataset.key` is the card.
        delay_days: with a budget: a fraud of day f is known from day f + delay_days + 1 on, and its card is not evaluated then.
        known_days: for that, frauds of so many days before the first evaluated day count: the handbook's week of training and
            week of delay, independent of the training range, so that the same rows are evaluated.
        neighbour_weight: retrieval over sequences: this times the log of the neighbours' score
            (training/evaluation/neighbours.py) is added to the network's, and the network's own metrics are reported as
            `alone_<metric>`; 0 = the network alone.
    """

    exclude_seen: bool = False
    card_budget: int = 0
    delay_days: int = 7
    known_days: int = 14
    neighbour_weight: float = 0.0


DEFAULT_PROTOCOL: Final = EvaluationProtocol()
# `training.data.splitting` has the split of each.
PROTOCOLS: Final[dict[str, EvaluationProtocol]] = {
    "time": DEFAULT_PROTOCOL,  # the last rows are evaluated; also any split of the files
    "leave_one_out": EvaluationProtocol(exclude_seen=True),  # each user's last item; their earlier items are left out
    "sessions": DEFAULT_PROTOCOL,  # the next item of a session may be one that it had before
    "cards": EvaluationProtocol(card_budget=100),  # a split by time; budget and delay of the Fraud Detection Handbook
}
_NO_PLACES: Final = np.zeros(0, np.int64)


@dataclass(frozen=True)
class ScoredSplit:
    """Predictions and labels of a task on its K rows with a known label.

    Attributes:
        task: the task.
        rows: (K,) rows of the data set.
        raw: (K,) or (K, C) probabilities before calibration; (K, D) vectors for retrieval.
        calibrated: the same after calibration.
        labels: (K,) int64.
        places: retrieval: (K,) place of the next item among all, 0 is the best; else (0,).
        alone: (K,) the same by the network's score alone, where another is added to it; else (0,).
    """

    task: Task
    rows: NDArray[np.int64]
    raw: Array
    calibrated: Array
    labels: NDArray[np.int64]
    places: NDArray[np.int64] = field(default_factory=lambda: _NO_PLACES)
    alone: NDArray[np.int64] = field(default_factory=lambda: _NO_PLACES)

    def only(self, keep: NDArray[np.bool_]) -> ScoredSplit:
        """Return the rows where `keep` (K,) is true."""
        places, alone = (each[keep] if len(each) else each for each in (self.places, self.alone))
        return ScoredSplit(self.task, self.rows[keep], self.raw[keep], self.calibrated[keep], self.labels[keep], places, alone)


def protocol_named(name: str, neighbour_weight: float = 0.0) -> EvaluationProtocol:
    """Return that protocol; an empty name is "time". For `neighbour_weight` see `EvaluationProtocol`.

    Raises:
        ConfigError: There is no such protocol.
    """
    if (name or "time") not in PROTOCOLS:
        raise ConfigError(f"evaluation.protocol = {name!r}: no such protocol; give one of {', '.join(PROTOCOLS)}")
    return replace(PROTOCOLS[name or "time"], neighbour_weight=neighbour_weight)


def split_scores(
    task: Task,
    dataset: Dataset,
    rows: NDArray[np.int64],
    predictions: Array,
    protocol: EvaluationProtocol,
    calibrated: Array | None = None,
) -> ScoredSplit:
    """Return the evaluated ones of `rows` (R,) with predictions (R, ...); `calibrated` are those after calibration."""
    keep = evaluated_rows(task, dataset, rows, protocol)
    labels = dataset.labels[task.label][rows[keep]].astype(np.int64)
    calibrated = predictions if calibrated is None else calibrated
    return ScoredSplit(task, rows[keep], predictions[keep], calibrated[keep], labels)


def measure(
    split: ScoredSplit, dataset: Dataset, protocol: EvaluationProtocol, threshold: float | None = None
) -> dict[str, float]:
    """Return the metrics of one task."""
    labels, raw, calibrated = split.labels, split.raw, split.calibrated
    metrics = {"rows": float(len(labels))}
    if split.task.kind == "retrieval":
        metrics |= rank_metrics(split.places)
        return metrics | (rank_metrics(split.alone, "alone_") if protocol.neighbour_weight else {})
    calibration = {
        "log_loss": figure.log_loss(calibrated, labels),
        "calibration_error": figure.calibration_error(calibrated, labels),
    }
    if split.task.kind == "classes":
        metrics |= {"accuracy": figure.accuracy(calibrated, labels), "macro_f1": figure.macro_f1(calibrated, labels)}
        return metrics | {"macro_auc": figure.macro_auc(raw, labels)} | calibration
    metrics |= {"average_precision": figure.average_precision(raw, labels), "auc": figure.roc_auc(raw, labels)}
    metrics |= calibration | {"brier": figure.brier(calibrated, labels), "accuracy": figure.accuracy(calibrated, labels)}
    if protocol.card_budget:
        days, cards = dataset.time_ms[split.rows] // _DAY_MS, dataset.key[split.rows]
        precision = card_precision_at(raw, labels, days, cards, protocol.card_budget)
        metrics[f"card_precision_at_{protocol.card_budget}"] = precision
    if threshold is not None:
        precision, recall = figure.precision_recall(calibrated, labels, threshold)
        metrics |= {"threshold": threshold, "precision_at_threshold": precision, "recall_at_threshold": recall}
    return metrics


def rank_metrics(places: NDArray[np.int64], prefix: str = "") -> dict[str, float]:
    """Return the metrics of retrieval, each name with `prefix` before it, of places (K,) among all items."""
    metrics = (("recall", figure.recall_at), ("ndcg", figure.ndcg_at), ("mrr", figure.mrr_at))
    values = {f"{name}_at_{k}": metric(places, k) for name, metric in metrics for k in RANKS}
    # Within the first one alone, all three are the same.
    return {f"{prefix}{name}": value for name, value in values.items() if is_metric_of("retrieval", name)}


def seen_items(dataset: Dataset, rows: Array, protocol: EvaluationProtocol) -> Array | None:
    """Return the items (R, L) that are left out for `rows`, -1 = none; None where all items are candidates.

    Raises:
        ContractError: Seen items are to be left out, and the rows are not sequences of items.
    """
    if not protocol.exclude_seen:
        return None
    if not isinstance(dataset.spec, SequenceInputs):
        raise ContractError(
            f"the protocol leaves out items that a user has had, and rows of {type(dataset.spec).__name__} do not name them. "
            'Operator action: set evaluation.protocol = "time".'
        )
    seen: Array = dataset.inputs["sequence"][rows].astype(np.int64) - 1  # the input counts from 1, 0 is padding
    return seen


def evaluated_rows(task: Task, dataset: Dataset, rows: Array, protocol: EvaluationProtocol) -> NDArray[np.bool_]:
    """Return which of `rows` (R,) are evaluated: those with a known label, without cards known to be compromised."""
    keep: NDArray[np.bool_] = dataset.labels[task.label][rows] != UNKNOWN
    if protocol.card_budget and task.kind == "binary":
        days = dataset.time_ms // _DAY_MS
        since = days[rows].min(initial=int(days.max(initial=0))) - protocol.known_days
        frauds = np.where(days >= since, dataset.labels[task.label], 0)
        keep &= ~known_compromised(days, dataset.key, frauds, protocol.delay_days)[rows]
    return keep


def has_out_of_scope(task: Task, dataset: Dataset) -> bool:
    """Return whether some rows have none of the task's classes, so that rejection is right for them."""
    return task.kind == "classes" and (OUT_OF_SCOPE in dataset.labels or any(name in OUTSIDE for name in task.classes))


def rejection_metrics(
    task: Task, dataset: Dataset, rows: tuple[Array, Array], calibrated: tuple[Array, Array]
) -> dict[str, float]:
    """Return the metrics of rejecting rows whose likeliest class within scope has less than a confidence.

    `rows` are (V,) that choose the confidence and (R,) that are evaluated, `calibrated` their probabilities, (V, C) and (R, C).
    Rows out of scope have `labels[OUT_OF_SCOPE]`, or a class of one of the names OUTSIDE.
    """
    inside = [place for place, name in enumerate(task.classes) if name not in OUTSIDE]
    held, evaluated = (_scope(task, dataset, *part, inside) for part in zip(rows, calibrated, strict=True))
    threshold = rejection_threshold(*held)
    sure, right, outside = evaluated
    rejected, within = sure < threshold, ~outside
    return {
        "rejection_threshold": threshold,
        "in_scope_accuracy": float((right & ~rejected)[within].mean()) if within.any() else float("nan"),
        "in_scope_accuracy_if_never_refused": float(right[within].mean()) if within.any() else float("nan"),
        "out_of_scope_recall": float(rejected[outside].mean()) if outside.any() else float("nan"),
        "out_of_scope_precision": float(outside[rejected].mean()) if rejected.any() else float("nan"),
    }


def _scope(task: Task, dataset: Dataset, rows: Array, calibrated: Array, inside: list[int]) -> tuple[Array, Array, Array]:
    """Return (confidence, right, outside), each (K,), of the rows that are known to be within scope or outside of it."""
    labels = dataset.labels[task.label][rows].astype(np.int64)
    outside = (labels != UNKNOWN) & ~np.isin(labels, inside)
    if OUT_OF_SCOPE in dataset.labels:
        outside |= dataset.labels[OUT_OF_SCOPE][rows] == 1
    known, calibrated = outside | (labels != UNKNOWN), calibrated[:, inside]
    right = np.array(inside)[calibrated.argmax(axis=1)] == labels
    return calibrated.max(axis=1)[known], right[known] & ~outside[known], outside[known]
