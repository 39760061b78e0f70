"""Evaluate a trained network on held-out rows by a protocol, and choose the threshold of alerts.

Works for any data set and any tasks: the metrics of a task depend on its kind alone.

    binary     ranking (average_precision, auc) and probabilities (log_loss, brier, calibration_error, accuracy);
               with a budget of cards: card_precision_at_<k>
    classes    accuracy, macro_f1, macro_auc, log_loss, calibration_error; where some rows have none of the classes (a label or a
               class `out_of_scope`): in_scope_accuracy and out_of_scope_recall at a threshold chosen on the validation range
    retrieval  recall_at_<k>, ndcg_at_<k>, mrr_at_<k> over all items

A metric without rows is NaN; every task has `rows`, the number of rows with a known label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.inputs import SequenceInputs
from model.network import MultiTaskNetwork
from model.probabilities import probabilities
from model.tasks import Task
from stream_app.errors import ContractError
from stream_app.evaluation.metrics import threshold_for
from training.data.batches import batches
from training.data.dataset import UNKNOWN, Dataset
from training.evaluation.baselines import baselines_of
from training.evaluation.calibration import NO_CALIBRATION, Calibration, calibrated, fit_calibration
from training.evaluation.metrics import higher_is_better, ranked_places, ranks
from training.evaluation.neighbours import neighbours_of
from training.evaluation.protocol import (
    EvaluationProtocol,
    ScoredSplit,
    has_out_of_scope,
    measure,
    protocol_named,
    rejection_metrics,
    seen_items,
    split_scores,
)

_BATCH: Final = 4_096

Array = NDArray[Any]
Metrics = dict[str, dict[str, float]]

# (task, metric, baseline, whether higher is better): what a model of a shop must beat to be shipped, besides all baselines of
# each task's own metric. Other data have no such baselines, or tasks of other names.
MUST_BEAT: Final = (
    ("fraud", "average_precision", "logistic_average_precision", True),
    ("fraud", "average_precision", "single_feature_average_precision", True),
    ("intent", "accuracy", "table_accuracy", True),
    ("intent", "log_loss", "table_log_loss", False),
    ("next_action", "accuracy", "table_accuracy", True),
    ("next_action", "log_loss", "table_log_loss", False),
    ("click", "log_loss", "scene_table_log_loss", False),
    ("user_vector", "recall_at_20", "popularity_recall_at_20", True),
    ("user_vector", "recall_at_20", "category_popularity_recall_at_20", True),
)


@dataclass(frozen=True)
class Evaluation:
    """Results on one split.

    Attributes:
        metrics: task -> metric -> value.
        segments: segment -> task -> metric -> value; empty where there is one segment only.
        scored: task -> predictions and labels behind the metrics, for the curves of a report.
        calibrations: task -> calibration that was applied.
    """

    metrics: Metrics
    segments: dict[str, Metrics]
    scored: dict[str, ScoredSplit]
    calibrations: dict[str, Calibration]


def predict(network: MultiTaskNetwork, dataset: Dataset, rows: Array) -> dict[str, Array]:
    """Return the network's uncalibrated predictions for R `rows` by task: (R,), (R, C), or vectors (R, D); float32."""
    device = next(network.parameters()).device
    parts: dict[str, list[Array]] = {task.name: [] for task in network.tasks}
    network.eval()
    with torch.no_grad():
        for inputs, _ in batches(dataset, rows, _BATCH, device):
            for name, value in probabilities(network(inputs), network.tasks).items():
                parts[name].append(value.float().cpu().numpy())
    return {name: np.concatenate(values) if values else np.zeros(0, np.float32) for name, values in parts.items()}


def item_vectors(network: MultiTaskNetwork, dataset: Dataset) -> NDArray[np.float32]:
    """Return the vectors (M, D) float32 of all items that can be recommended, in the order of their numbers."""
    device = next(network.parameters()).device
    with torch.no_grad():
        if isinstance(dataset.spec, SequenceInputs):
            vectors = network.item_table()
        else:
            assert dataset.table is not None, "a retrieval task over events has an item table"
            items, categories = (torch.from_numpy(part).to(device) for part in (dataset.table.items, dataset.table.categories))
            vectors = network.item_vectors(items, categories)
    array: NDArray[np.float32] = vectors.float().cpu().numpy()
    return array


def evaluate(
    network: MultiTaskNetwork,
    dataset: Dataset,
    split: str = "test",
    protocol: EvaluationProtocol | str = "time",
    calibrations: Mapping[str, Calibration] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> Evaluation:
    """Evaluate all tasks of the network, which is put into evaluation mode, on one split, by a protocol or its name.

    Without `calibrations` those of the tasks are fitted on the validation range; {} leaves the predictions uncalibrated.
    Precision and recall of `thresholds` of alerts, by binary task, are reported.

    Raises:
        ContractError: The split has no rows, or a calibration cannot be fitted.
        ConfigError: There is no such protocol.
    """
    rows, rule = dataset.rows(split), protocol_named(protocol) if isinstance(protocol, str) else protocol
    if not len(rows):
        raise ContractError(
            f"{', '.join(task.name for task in network.tasks)} cannot be evaluated: the {split} split has 0 of "
            f"{len(dataset)} rows. Operator action: give the source a longer log or a larger share for {split}."
        )
    refusal = any(has_out_of_scope(task, dataset) for task in network.tasks)
    calibrates = calibrations is None and any(task.calibration != "none" for task in network.tasks)
    held = dataset.rows("validation")
    on_held = predict(network, dataset, held) if refusal or calibrates else {}
    fitted = _fitted(network.tasks, dataset, held, on_held) if calibrations is None else dict(calibrations)
    predictions = predict(network, dataset, rows)
    served = _calibrated(network.tasks, predictions, fitted)
    held_served = _calibrated(network.tasks, on_held, fitted) if refusal else {}
    scored: dict[str, ScoredSplit] = {}
    metrics: Metrics = {}
    for task in network.tasks:
        # Curves of the task that it depends on can change the order of a product, so a product is evaluated calibrated.
        raw = served[task.name] if task.given else predictions[task.name]
        scored[task.name] = split_scores(task, dataset, rows, raw, rule, served[task.name])
        if task.kind == "retrieval":
            scored[task.name] = _ranked(scored[task.name], item_vectors(network, dataset), dataset, rule)
        metrics[task.name] = measure(scored[task.name], dataset, rule, (thresholds or {}).get(task.name))
        if has_out_of_scope(task, dataset):
            metrics[task.name] |= rejection_metrics(task, dataset, (held, rows), (held_served[task.name], served[task.name]))
    segments = _segments(scored, dataset, rule, thresholds or {})
    for task in network.tasks:
        metrics[task.name] |= _over_segments(task, segments)
    return Evaluation(metrics, segments, scored, fitted)


def choose_threshold(
    network: MultiTaskNetwork,
    dataset: Dataset,
    precision: float,
    calibrations: Mapping[str, Calibration] | None = None,
) -> float:
    """Return the lowest threshold of fraud with at least `precision` on the validation range of every segment, the worst one too.

    Over all segments together the easy ones would decide: where frauds stand far apart from the rest, precision holds far
    down, and it falls steeply in a shop where they do not. Rounded up to three decimals.

    Raises:
        ContractError: No label of the task is known in the validation range.
    """
    label = next(task.label for task in network.tasks if task.name == "fraud")
    rows = dataset.known(label, "validation")
    if not len(rows):
        raise ContractError(
            f"the threshold of task 'fraud' is chosen on the validation range, which has 0 known labels of {label!r}. "
            "Operator action: give a longer log, or one whose labels come sooner."
        )
    scores = _calibrated(network.tasks, predict(network, dataset, rows), calibrations or {})["fraud"]
    segment, labels = dataset.segment[rows], dataset.labels[label][rows]
    of_segments = [threshold_for(scores[segment == n], labels[segment == n], precision) for n in np.unique(segment)]
    return min(0.999, math.ceil(max(of_segments) * 1_000) / 1_000)


def not_beaten(metrics: Metrics, floors: Metrics, tasks: tuple[Task, ...] = ()) -> list[str]:
    """Return one sentence for each baseline that the model does not beat, of those in both `metrics` and `floors`.

    `floors` are task -> `<way>_<metric>` -> value. Besides what MUST_BEAT names, the own metric of each of `tasks` must beat all
    of its baselines.
    """
    rules = [rule for rule in MUST_BEAT if rule[0] in metrics and rule[2] in floors.get(rule[0], {})]
    for task in tasks:
        own = [f"{way}_{task.metric}" for way in baselines_of(floors.get(task.name, {}), task.metric)]
        rules += [(task.name, task.metric, floor, higher_is_better(task.metric)) for floor in own]
    return [
        f"{task}: {metric} {metrics[task][metric]:.4f} is no better than {floor} {floors[task][floor]:.4f}"
        for task, metric, floor, higher in dict.fromkeys(rules)
        if not (metrics[task][metric] > floors[task][floor] if higher else metrics[task][metric] < floors[task][floor])
    ]


def _fitted(tasks: tuple[Task, ...], dataset: Dataset, rows: Array, predictions: Mapping[str, Array]) -> dict[str, Calibration]:
    fitted = {}
    for task in tasks:
        if task.calibration != "none" and task.kind != "retrieval":
            labels = dataset.labels[task.label][rows].astype(np.int64)
            known = labels != UNKNOWN
            if task.given:  # its own factor is a share of the rows on which the other task is positive
                condition = next(other for other in tasks if other.name == task.given)
                known &= dataset.labels[condition.label][rows] == 1
            fitted[task.name] = fit_calibration(task.calibration, _own(task, predictions)[known], labels[known], task.name)
    return fitted


def _own(task: Task, predictions: Mapping[str, Array]) -> Array:
    """Return the prediction of the task itself: of a product, its own factor."""
    if not task.given:
        return predictions[task.name]
    own: Array = predictions[task.name] / np.maximum(predictions[task.given], np.finfo(np.float32).tiny)
    return np.minimum(own, 1.0)


def _calibrated(tasks: tuple[Task, ...], predictions: Mapping[str, Array], fitted: Mapping[str, Calibration]) -> dict[str, Array]:
    """Return predictions as they are served: each factor calibrated, then multiplied, as `model.probabilities` does."""
    own = {task.name: calibrated(_own(task, predictions), fitted.get(task.name, NO_CALIBRATION)) for task in tasks}
    return {task.name: own[task.name] * own[task.given] if task.given else own[task.name] for task in tasks}


def _over_segments(task: Task, segments: Mapping[str, Metrics]) -> dict[str, float]:
    """Return mean and worst of the segments: every domain has the same weight."""
    metrics = {}
    for metric in dict.fromkeys((task.metric, "accuracy")):
        each = [values[task.name][metric] for values in segments.values() if metric in values.get(task.name, {})]
        if each:
            metrics[f"segment_mean_{metric}"] = float(np.mean(each))
            metrics[f"segment_worst_{metric}"] = (min if higher_is_better(metric) else max)(each)
    return metrics


def _ranked(split: ScoredSplit, items: Array, dataset: Dataset, protocol: EvaluationProtocol) -> ScoredSplit:
    seen = seen_items(dataset, split.rows, protocol)
    places = ranks(split.raw, items, split.labels, seen)
    if not protocol.neighbour_weight:
        return replace(split, places=places)
    if not isinstance(dataset.spec, SequenceInputs):
        raise ContractError(
            f"neighbours are added to the scores (neighbour_weight {protocol.neighbour_weight:g}), and rows of "
            f"{type(dataset.spec).__name__} are no sequences of items. Operator action: set evaluation.neighbour_weight = 0."
        )
    near, sequences = neighbours_of(dataset, split.task.label), dataset.inputs["sequence"][split.rows]
    item_columns = np.ascontiguousarray(items.T)  # (D, M)

    def scores(part: slice) -> NDArray[np.float32]:
        of_network: NDArray[np.float32] = split.raw[part] @ item_columns
        return of_network + np.float32(protocol.neighbour_weight) * near.log_scores(sequences[part])

    return replace(split, places=ranked_places(scores, len(items), split.labels, seen), alone=places)


def _segments(
    scored: Mapping[str, ScoredSplit], dataset: Dataset, protocol: EvaluationProtocol, thresholds: Mapping[str, float]
) -> dict[str, Metrics]:
    """Return the metrics by segment, of tasks with rows there."""
    metrics: dict[str, Metrics] = {}
    for number, segment in enumerate(dataset.segments if len(dataset.segments) > 1 else ()):
        for name, of_task in scored.items():
            here = dataset.segment[of_task.rows] == number
            if here.any():
                of_segment = measure(of_task.only(here), dataset, protocol, thresholds.get(name))
                metrics.setdefault(segment, {})[name] = of_segment
    return metrics
