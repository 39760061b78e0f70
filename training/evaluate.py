"""Judge a trained network on the test range, each task beside its floors, and choose the threshold of alerts."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.contract import OUTPUTS
from model.network import MultiTaskNetwork, ServingNetwork
from training.dataset import Dataset
from training.floors import CANDIDATES
from training.labels import UNKNOWN
from training.loop import batches
from training.metrics import (
    accuracy,
    average_precision,
    log_loss,
    macro_f1,
    precision_recall,
    roc_auc,
    threshold_for,
)

__all__ = ["MUST_BEAT", "answers", "choose_threshold", "evaluate", "item_vectors", "not_beaten"]

_BATCH: Final = 4_096
Array = NDArray[Any]

# (task, metric, floor, whether higher is better): what a model must beat to be shipped.
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


def answers(network: MultiTaskNetwork, fraud_shift: float, dataset: Dataset, rows: Array) -> dict[str, Array]:
    """Return what would be served for `rows`: arrays by name as `contract.OUTPUTS`."""
    serving = ServingNetwork(network, fraud_shift).eval()
    parts = []
    with torch.no_grad():
        for inputs, _ in batches(dataset, rows, _BATCH):
            parts.append([output.numpy() for output in serving(*inputs)])
    joined = [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
    return {spec.name: output for spec, output in zip(OUTPUTS, joined, strict=True)}


def item_vectors(network: MultiTaskNetwork, dataset: Dataset) -> NDArray[np.float32]:
    """Return the vectors (M, D) float32 of all items, in the order of the data set's table."""
    with torch.no_grad():
        vectors = network.item_vectors(torch.from_numpy(dataset.table.items), torch.from_numpy(dataset.table.categories))
    found: NDArray[np.float32] = vectors.numpy()
    return found


def choose_threshold(network: MultiTaskNetwork, fraud_shift: float, dataset: Dataset, precision: float) -> float:
    """Return the lowest fraud threshold with at least `precision` on the validation range of every shop, the worst one too.

    Over all shops together the easy ones would decide: where frauds stand far apart from the rest, precision holds far
    down, and it falls steeply in a shop where they do not. Rounded up to three decimals.
    """
    rows = dataset.rows("validation")
    labels = dataset.labels["fraud"]
    rows = rows[labels[rows] != UNKNOWN]
    scores, shop = answers(network, fraud_shift, dataset, rows)["fraud"], dataset.shop[rows]
    of_shops = [threshold_for(scores[shop == n], labels[rows][shop == n], precision) for n in np.unique(shop)]
    return min(0.999, math.ceil(max(of_shops) * 1_000) / 1_000)


def evaluate(network: MultiTaskNetwork, fraud_shift: float, dataset: Dataset, threshold: float) -> dict[str, dict[str, float]]:
    """Return metrics by task on the test range."""
    rows = dataset.rows("test")
    outputs = answers(network, fraud_shift, dataset, rows)
    labels = {name: values[rows].astype(np.int64) for name, values in dataset.labels.items()}
    known = {name: values != UNKNOWN for name, values in labels.items()}

    def of(task: str) -> tuple[Array, Array]:
        return outputs[task][known[task]], labels[task][known[task]]

    fraud, click = of("fraud"), of("click")
    precision, recall = precision_recall(*fraud, threshold)
    metrics = {
        "fraud": {
            "average_precision": average_precision(*fraud),
            "auc": roc_auc(*fraud),
            "log_loss": log_loss(*fraud),
            "threshold": threshold,
            "precision_at_threshold": precision,
            "recall_at_threshold": recall,
        },
        "click": {"auc": roc_auc(*click), "log_loss": log_loss(*click)},
    }
    for task in ("intent", "next_action"):
        scored = of(task)
        metrics[task] = {
            "accuracy": accuracy(*scored),
            "log_loss": log_loss(*scored),
            "macro_f1": macro_f1(*scored),
        }
    users, wanted = outputs["user_vector"][known["next_item"]], labels["next_item"][known["next_item"]]
    metrics["user_vector"] = {"recall_at_20": _recall(users, item_vectors(network, dataset), wanted)}
    for task, column in (("fraud", "fraud"), ("user_vector", "next_item")):
        metrics[task]["rows"] = float(known[column].sum())
    return metrics


def not_beaten(metrics: dict[str, dict[str, float]], floors: dict[str, dict[str, float]]) -> list[str]:
    """Return one sentence for each floor of MUST_BEAT that the model does not beat."""
    return [
        f"{task}: {metric} {metrics[task][metric]:.4f} is no better than {floor} {floors[task][floor]:.4f}"
        for task, metric, floor, higher in MUST_BEAT
        if not (metrics[task][metric] > floors[task][floor] if higher else metrics[task][metric] < floors[task][floor])
    ]


def _recall(users: Array, items: Array, wanted: Array) -> float:
    hits = 0
    for start in range(0, len(users), _BATCH):
        scores = torch.from_numpy(users[start : start + _BATCH] @ items.T)
        best = torch.topk(scores, CANDIDATES, dim=1).indices.numpy()
        hits += int((best == wanted[start : start + _BATCH, None]).any(axis=1).sum())
    return hits / max(1, len(users))
