"""Curves as lists short enough for a report: reliability, ROC, precision and recall, confusion."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.evaluation.metrics import CALIBRATION_BINS, calibration_bin, confidence_and_outcome, cumulative

_POINTS: Final = 200  # of a curve: a screen cannot show more

Array = NDArray[Any]


def reliability(probabilities: Array, labels: Array) -> dict[str, list[float]]:
    """Return `says`, `happened` and `rows` of each bin that is not empty: mean probability, share of hits, count.

    Probabilities and labels, as for `calibration_error`: (N,) of label 1, or (N, C), of which the most likely class counts.
    """
    confidence, outcome = confidence_and_outcome(probabilities, labels)
    place = calibration_bin(confidence, CALIBRATION_BINS)
    rows = np.bincount(place, minlength=CALIBRATION_BINS)
    filled = rows > 0
    means = [np.bincount(place, part, minlength=CALIBRATION_BINS)[filled] / rows[filled] for part in (confidence, outcome)]
    return {"says": means[0].tolist(), "happened": means[1].tolist(), "rows": rows[filled].astype(float).tolist()}


def roc_curve(scores: Array, labels: Array) -> dict[str, list[float]]:
    """Return `false_positives` and `recall`, both shares, from the highest threshold to the lowest; (N,) scores and labels."""
    hits, alerts = cumulative(scores, labels)
    false = np.concatenate([[0], alerts - hits]) / max(1, int(len(labels) - labels.sum()))
    recall = np.concatenate([[0], hits]) / max(1, int(labels.sum()))
    points = _thinned(false + recall)
    return {"false_positives": false[points].tolist(), "recall": recall[points].tolist()}


def precision_recall_curve(scores: Array, labels: Array) -> dict[str, list[float]]:
    """Return `recall` and `precision` from the highest threshold to the lowest; (N,) scores and labels."""
    hits, alerts = cumulative(scores, labels)
    recall = hits / max(1, int(labels.sum()))
    points = _thinned(recall + np.log(alerts) / np.log(len(labels) + 1.0))  # even in recall, and in the log of the alerts
    return {"recall": recall[points].tolist(), "precision": (hits / alerts)[points].tolist()}


def confusion(probabilities: Array, labels: Array) -> list[list[int]]:
    """Return counts [label][prediction] of the most likely class: (N, C) probabilities, or (N,) with class 1 from .5 on."""
    predictions = probabilities.argmax(axis=1) if probabilities.ndim == 2 else (probabilities >= 0.5).astype(np.int64)
    classes = probabilities.shape[1] if probabilities.ndim == 2 else 2
    counts = np.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)
    table: list[list[int]] = counts.tolist()
    return table


def _thinned(along: Array) -> Array:
    """Return at most _POINTS places, evenly along a rising measure; the first and the last among them."""
    even = np.linspace(along[0], along[-1], _POINTS)
    places: Array = np.unique(np.append(np.searchsorted(along, even).clip(0, len(along) - 1), len(along) - 1))
    return places
