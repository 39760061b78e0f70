"""Baselines without a network, which a trained model has to beat.

Each is fitted on the training range and evaluated like the model, on the same rows by the same protocol. Its figures are called
`<way>_<metric>`; `baselines_of` reads such names.

    prevalence, majority   always the shares of the training range
    single_feature         binary: the best of the dense features, high or low; which one is chosen on the training range
    logistic               a logistic regression on all scaled dense features and one-hot categories
    svm                    a linear support vector machine on the n-grams of texts, without probabilities
    table, scene_table     events: shares by the kind and scene of the event
    popularity             retrieval: the commonest next items
    neighbours             sequences: items that occur near those of the sequence (training/evaluation/neighbours.py)
    category_popularity    events: the commonest of the event's own category (of all, for a search)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.inputs import EventInputs, SequenceInputs, TextInputs
from model.tasks import Task
from stream_app.evaluation.metrics import average_precision
from training.data.dataset import SPLITS, UNKNOWN, Dataset
from training.evaluation.metrics import ranked_places, ranks
from training.evaluation.neighbours import neighbours_of
from training.evaluation.protocol import (
    DEFAULT_PROTOCOL,
    EvaluationProtocol,
    evaluated_rows,
    has_out_of_scope,
    measure,
    rank_metrics,
    rejection_metrics,
    seen_items,
    split_scores,
)

WAYS: Final = (
    "prevalence",
    "majority",
    "single_feature",
    "logistic",
    "svm",
    "table",
    "scene_table",
    "popularity",
    "neighbours",
    "category_popularity",
)

CANDIDATES: Final = 20  # items of an answer
_KIND, _SCENE = 0, 1  # columns of contract.CONTEXT_COLUMNS
_SCENES: Final = 32  # more than there are
_LARGEST: Final = 1e15  # stands for infinity, as in the encoder
_TRAIN: Final = SPLITS.index("train")
_FITTING_ROWS: Final = 100_000  # up to twice as many are taken: a regression has some hundred numbers to learn
_REGRESSION_STEPS: Final = 100
_PULL: Final = 2e-4  # towards zero, of the mean loss: as weak as it can be and still have one answer where classes part
_SPREADS_IN_RANGE: Final = 1.35  # interquartile range of a normal distribution, in standard deviations
_LEAST_SPREAD: Final = 0.1  # in log units, as the encoder
_LIMIT: Final = 6.0  # spreads, as the encoder
_NOT_COMPARED: Final = frozenset({"rows", "calibration_error", "brier"})  # metrics that no baseline is compared by

Array = NDArray[Any]


def fit_baselines(dataset: Dataset, protocol: EvaluationProtocol = DEFAULT_PROTOCOL) -> dict[str, dict[str, float]]:
    """Return baselines by task and name; none for a task without a known label in the training or the test range."""
    baselines: dict[str, dict[str, float]] = {}
    held = [dataset.rows("validation")] if any(has_out_of_scope(task, dataset) for task in dataset.tasks) else []
    rows = np.concatenate([_thinned(dataset.rows("train")), *held, dataset.rows("test")])
    features = features_of(dataset, rows) if any(task.kind != "retrieval" for task in dataset.tasks) else None
    for task in dataset.tasks:
        train = dataset.known(task.label, "train")
        if not len(train) or not len(dataset.known(task.label, "test")):
            baselines[task.name] = {}
        elif task.kind == "retrieval":
            baselines[task.name] = _retrieval(task, dataset, train, protocol)
        else:
            baselines[task.name] = _constant(task, dataset, train, protocol)
            baselines[task.name] |= _table(task, dataset, train, protocol) if isinstance(dataset.spec, EventInputs) else {}
            baselines[task.name] |= _single(task, dataset, rows, protocol) if task.kind == "binary" else {}
            baselines[task.name] |= _linear(task, dataset, features, rows, protocol)
    return baselines


def baselines_of(figures: Mapping[str, float | None], metric: str) -> dict[str, float]:
    """Return way -> baseline of exactly this metric, from `figures` by `<way>_<metric>`, without NaN.

    The metrics of a network alone (`alone_<metric>`, see `training.evaluation.protocol`) have the same baselines.
    """
    named = {f"{way}_{metric.removeprefix('alone_')}": way for way in WAYS}
    return {named[name]: value for name, value in figures.items() if name in named and value is not None and math.isfinite(value)}


def features_of(dataset: Dataset, rows: Array) -> Any:  # noqa: ANN401  # scipy ships no types
    """Return the features of `rows` (R,) for a linear model: an array (R, F), a sparse matrix, or None without features.

    Dense features are scaled as the network's encoder scales them, by the training range; categories and scenes are one-hot;
    texts are their n-grams.
    """
    from scipy import sparse

    dense = [_scaled(dataset, rows)] if "dense" in dataset.inputs else []
    codes = list(dataset.inputs["categories"].T) if "categories" in dataset.inputs else []
    codes += [dataset.inputs["scene"]] if "scene" in dataset.inputs else []
    parts = [_one_hot(column)[rows] for column in codes]
    parts += [_grams(dataset, rows)] if "grams" in dataset.inputs else []
    if not parts:
        return dense[0] if dense else None
    return sparse.hstack([sparse.csr_matrix(part) for part in dense] + parts, format="csr")


def _scaled(dataset: Dataset, rows: Array) -> NDArray[np.float32]:
    def logs(part: Array) -> Array:
        values = np.clip(dataset.inputs["dense"][part].astype(np.float64), -_LARGEST, _LARGEST)
        return np.sign(values) * np.log1p(np.abs(values))

    fit = logs(_thinned(dataset.rows("train")))
    known = ~np.isnan(fit).all(axis=0)  # an empty column carries no information
    low, middle, high = np.nanpercentile(np.where(known, fit, 0.0), [25, 50, 75], axis=0)
    spread = np.maximum((high - low) / _SPREADS_IN_RANGE, np.nanstd(np.where(known, fit, 0.0), axis=0) / 2)
    scaled = np.clip((logs(rows) - middle) / np.maximum(spread, _LEAST_SPREAD), -_LIMIT, _LIMIT)
    known_scaled: NDArray[np.float32] = np.nan_to_num(scaled).astype(np.float32)
    return known_scaled


def _one_hot(column: Array) -> Any:  # noqa: ANN401  # scipy ships no types
    from scipy import sparse

    rows, codes = np.arange(len(column)), np.maximum(column, 0).astype(np.int64)
    return sparse.csr_matrix((np.ones(len(column), np.float32), (rows, codes)))


def _grams(dataset: Dataset, rows: Array) -> Any:  # noqa: ANN401  # scipy ships no types
    from scipy import sparse

    grams = dataset.inputs["grams"]
    row, place = np.nonzero(grams[rows])
    values = dataset.inputs["gram_values"][rows][row, place]
    return sparse.csr_matrix((values, (row, grams[rows][row, place])), (len(rows), int(grams.max(initial=0)) + 1))


def _metrics(task: Task, dataset: Dataset, predictions: Array, protocol: EvaluationProtocol, way: str) -> dict[str, float]:
    """Return the metrics of predictions (R, ...) for the R rows of the test range."""
    metrics = measure(split_scores(task, dataset, dataset.rows("test"), predictions, protocol), dataset, protocol)
    return {f"{way}_{name}": value for name, value in metrics.items() if name not in _NOT_COMPARED}


def _labels(task: Task, dataset: Dataset) -> tuple[NDArray[np.int64], int]:
    return dataset.labels[task.label].astype(np.int64), len(task.classes) if task.kind == "classes" else 2


def _constant(task: Task, dataset: Dataset, train: Array, protocol: EvaluationProtocol) -> dict[str, float]:
    shares = _shares(np.zeros(len(dataset), np.int64), *_labels(task, dataset), train, dataset.rows("test"))
    if task.kind == "classes":
        return _metrics(task, dataset, shares, protocol, "majority")
    metrics = _metrics(task, dataset, shares[:, 1], protocol, "prevalence")
    return {name: metrics[name] for name in ("prevalence_average_precision", "prevalence_log_loss", "prevalence_accuracy")}


def _table(task: Task, dataset: Dataset, train: Array, protocol: EvaluationProtocol) -> dict[str, float]:
    context = dataset.inputs["context"].astype(np.int64)
    # The next action depends on the kind of event, not on its scene; a table by both has fewer rows per cell and is no better.
    group = context[:, _KIND] if task.name == "next_action" else context[:, _KIND] * _SCENES + context[:, _SCENE]
    shares = _shares(group, *_labels(task, dataset), train, dataset.rows("test"))
    if task.kind == "classes":
        return _metrics(task, dataset, shares, protocol, "table")
    return _metrics(task, dataset, shares[:, 1], protocol, "scene_table")


def _shares(group: Array, labels: Array, classes: int, train: Array, rows: Array) -> Array:
    """Return for each of `rows` (R,) the class shares (R, C) of its group in the training range, smoothed by one."""
    counts = np.ones((int(group.max()) + 1, classes))
    np.add.at(counts, (group[train], labels[train]), 1.0)
    shares: Array = (counts / counts.sum(axis=1, keepdims=True))[group[rows]]
    return shares


def _single(task: Task, dataset: Dataset, rows: Array, protocol: EvaluationProtocol) -> dict[str, float]:
    """Evaluate the best single feature; which one, and its sign, is chosen on the training range."""
    if "dense" not in dataset.inputs or not dataset.inputs["dense"].shape[1]:
        return {}
    values, labels = _scaled(dataset, rows), dataset.labels[task.label][rows]
    fit = (dataset.split[rows] == _TRAIN) & (labels != UNKNOWN)
    column, sign = max(
        ((column, sign) for column in range(values.shape[1]) for sign in (1.0, -1.0)),
        key=lambda way: average_precision(way[1] * values[fit, way[0]], labels[fit]),
    )
    metrics = _metrics(task, dataset, sign * values[len(rows) - len(dataset.rows("test")) :, column], protocol, "single_feature")
    return {name: value for name, value in metrics.items() if not name.endswith(("log_loss", "accuracy"))}  # it is no probability


def _linear(task: Task, dataset: Dataset, features: Any, rows: Array, protocol: EvaluationProtocol) -> dict[str, float]:  # noqa: ANN401
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    labels, classes = _labels(task, dataset)
    fit = np.flatnonzero((dataset.split[rows] == _TRAIN) & (labels[rows] != UNKNOWN))
    occur = np.unique(labels[rows[fit]])
    if features is None or len(occur) < 2:
        return {}
    text = isinstance(dataset.spec, TextInputs)
    model = LinearSVC(C=1.0) if text else LogisticRegression(C=1.0 / (_PULL * len(fit)), max_iter=_REGRESSION_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a model that is nearly converged is a baseline
        model.fit(features[fit], labels[rows[fit]])
    predictions = _class_scores(model, features, occur, classes)
    test = predictions[len(rows) - len(dataset.rows("test")) :]
    way = "svm" if text else "logistic"
    metrics = _metrics(task, dataset, test if task.kind == "classes" else test[:, 1], protocol, way)
    if has_out_of_scope(task, dataset):
        held = dataset.rows("validation")
        both = (predictions[len(rows) - len(test) - len(held) : len(rows) - len(test)], test)
        rejection = rejection_metrics(task, dataset, (held, dataset.rows("test")), both)
        metrics |= {f"{way}_{name}": rejection[name] for name in ("in_scope_accuracy", "out_of_scope_recall")}
    return {name: value for name, value in metrics.items() if not (text and name.endswith("log_loss"))}


def _class_scores(model: Any, features: Any, occur: Array, classes: int) -> Array:  # noqa: ANN401  # scikit-learn ships no types
    """Return (R, classes) of a model that was fitted on the classes `occur`: probabilities, or margins where it has none."""
    margins = not hasattr(model, "predict_proba")
    known = model.decision_function(features) if margins else model.predict_proba(features)
    if known.ndim == 1:  # two classes, as one margin, of which the sigmoid is .5 at 0
        known = np.stack([1.0 / (1.0 + np.exp(known)), 1.0 / (1.0 + np.exp(-known))], axis=1)
    scores = np.full((len(known), classes), known.min(initial=0.0) if margins else 0.0)  # a class never seen comes last
    scores[:, occur] = known
    return scores


def _thinned(rows: Array) -> Array:
    return rows[:: max(1, len(rows) // _FITTING_ROWS)]


def _retrieval(task: Task, dataset: Dataset, train: Array, protocol: EvaluationProtocol) -> dict[str, float]:
    test = dataset.rows("test")
    test = test[evaluated_rows(task, dataset, test, protocol)]
    targets = dataset.labels[task.label].astype(np.int64)
    items = dataset.table.ids if dataset.table else []
    count = dataset.spec.items if isinstance(dataset.spec, SequenceInputs) else len(items)
    counts = np.bincount(targets[train], minlength=count).astype(np.float32)
    everybody, seen = np.ones((len(test), 1), np.float32), seen_items(dataset, test, protocol)
    metrics = rank_metrics(ranks(everybody, counts[:, None], targets[test], seen), "popularity_")
    if isinstance(dataset.spec, SequenceInputs):
        near, sequences = neighbours_of(dataset, task.label), dataset.inputs["sequence"][test]
        places = ranked_places(lambda part: near.scores(sequences[part]), count, targets[test], seen)
        return metrics | rank_metrics(places, "neighbours_")
    return metrics | _category_popularity(dataset, counts, test, targets[test])


def _category_popularity(dataset: Dataset, counts: Array, test: Array, targets: Array) -> dict[str, float]:
    if dataset.table is None:
        return {}
    popular, of_item = np.argsort(-counts, kind="stable"), dataset.table.categories
    best = popular[:CANDIDATES].tolist()
    of_category = {int(c): popular[of_item[popular] == c][:CANDIDATES].tolist() for c in np.unique(of_item)}
    candidates = [of_category.get(category) or best for category in dataset.inputs["item"][test, 1].tolist()]
    rows = zip(targets.tolist(), candidates, strict=True)
    places = np.array([items.index(item) if item in items else CANDIDATES for item, items in rows], np.int64)
    return rank_metrics(places, "category_popularity_")
