"""What is reached without a network: the numbers a trained model has to beat to have learnt anything.

Each floor is fitted on the training range and judged on the test range, like the model.

    fraud        the prevalence; the best single feature; a logistic regression on all scaled features
    intent       the commonest class; a table by (kind, scene) of the event
    next_action  the commonest class; a table by the kind of the event
    click        the prevalence; a table by scene
    user_vector  the 20 commonest next items; the 20 commonest of the event's own category (of all, for a search)
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.network import MultiTaskNetwork
from training.dataset import Dataset
from training.labels import UNKNOWN
from training.metrics import accuracy, average_precision, log_loss, macro_f1, roc_auc

__all__ = ["CANDIDATES", "floors"]

CANDIDATES: Final = 20  # items an answer holds
_KIND, _SCENE = 0, 1  # columns of contract.CONTEXT_COLUMNS
_SCENES: Final = 32  # more than there are
_REGRESSION_ROWS: Final = 100_000  # a logistic regression has 40 numbers to learn: more rows change nothing
_REGRESSION_STEPS: Final = 60

Array = NDArray[Any]


def floors(dataset: Dataset, network: MultiTaskNetwork) -> dict[str, dict[str, float]]:
    """Return floors by task and metric; the network lends nothing but its scaling of the features."""
    context = dataset.inputs["context"].astype(np.int64)
    by_scene = context[:, _KIND] * _SCENES + context[:, _SCENE]
    found: dict[str, dict[str, float]] = {"fraud": _fraud(dataset, network)}
    for task, group in (("intent", by_scene), ("next_action", context[:, _KIND]), ("click", by_scene)):
        (train, test), labels = _known(dataset, task), dataset.labels[task].astype(np.int64)
        classes = int(labels.max()) + 1
        constant = _table(np.zeros_like(group), labels, train, classes)[np.zeros(len(test), np.int64)]
        table = _table(group, labels, train, classes)[group[test]]
        found[task] = (
            {
                "prevalence_log_loss": log_loss(constant[:, 1], labels[test]),
                "scene_table_log_loss": log_loss(table[:, 1], labels[test]),
                "scene_table_auc": roc_auc(table[:, 1], labels[test]),
            }
            if task == "click"
            else {
                "majority_accuracy": accuracy(constant, labels[test]),
                "table_accuracy": accuracy(table, labels[test]),
                "table_log_loss": log_loss(table, labels[test]),
                "table_macro_f1": macro_f1(table, labels[test]),
            }
        )
    found["user_vector"] = _popularity(dataset)
    return found


def _known(dataset: Dataset, task: str) -> tuple[Array, Array]:
    known = dataset.labels[task] != UNKNOWN
    train, test = dataset.rows("train"), dataset.rows("test")
    return train[known[train]], test[known[test]]


def _table(group: Array, labels: Array, train: Array, classes: int) -> Array:
    """Class shares (G, C) by group in the training range, smoothed by one; a group never seen is uniform."""
    counts = np.ones((int(group.max()) + 1, classes))
    np.add.at(counts, (group[train], labels[train]), 1.0)
    shares: Array = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _fraud(dataset: Dataset, network: MultiTaskNetwork) -> dict[str, float]:
    train, test = _known(dataset, "fraud")
    labels = dataset.labels["fraud"]
    with torch.no_grad():
        scaled = network.dense(torch.from_numpy(dataset.inputs["dense"]))
    # Which feature, and whether high or low is bad, is chosen on the training range.
    fit = scaled[train].numpy()
    chosen = max(
        ((column, sign) for column in range(fit.shape[1]) for sign in (1.0, -1.0)),
        key=lambda way: average_precision(way[1] * fit[:, way[0]], labels[train]),
    )
    single = chosen[1] * scaled[test, chosen[0]].numpy()
    regression = _regression(scaled[train], torch.from_numpy(labels[train].astype(np.float32)), scaled[test])
    return {
        "prevalence": float(labels[test].mean()),
        "single_feature_average_precision": average_precision(single, labels[test]),
        "logistic_average_precision": average_precision(regression, labels[test]),
        "logistic_auc": roc_auc(regression, labels[test]),
    }


def _regression(train: torch.Tensor, labels: torch.Tensor, test: torch.Tensor) -> Array:
    step = max(1, len(train) // _REGRESSION_ROWS)
    train, labels = train[::step], labels[::step]
    weights = torch.zeros(train.shape[1] + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=_REGRESSION_STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        logits = train @ weights[:-1] + weights[-1]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels) + 1e-4 * (weights**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]  # torch has no types for it
    scores: Array = (test @ weights[:-1].detach()).numpy()
    return scores


def _popularity(dataset: Dataset) -> dict[str, float]:
    train, test = _known(dataset, "next_item")
    items, categories = dataset.labels["next_item"], dataset.inputs["item"][:, 1]
    count = len(dataset.table.ids)
    popular = np.argsort(-np.bincount(items[train], minlength=count), kind="stable")
    best = set(popular[:CANDIDATES].tolist())
    of_category = {
        int(category): set(popular[dataset.table.categories[popular] == category][:CANDIDATES].tolist())
        for category in np.unique(dataset.table.categories)
    }
    hits = [item in best for item in items[test].tolist()]
    near = [
        item in (of_category.get(category) or best)
        for item, category in zip(items[test].tolist(), categories[test].tolist(), strict=True)
    ]
    return {
        "popularity_recall_at_20": float(np.mean(hits)) if hits else float("nan"),
        "category_popularity_recall_at_20": float(np.mean(near)) if near else float("nan"),
    }
