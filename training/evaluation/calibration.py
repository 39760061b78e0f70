"""Calibration of probabilities, fitted on the validation range: a temperature, or a monotone curve.

Both keep the order of predictions (a curve may make neighbours equal), so ranking metrics use the uncalibrated predictions and
metrics of probabilities the calibrated ones. A calibration is written as JSON and applied without scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.errors import ContractError
from stream_app.evaluation.metrics import LEAST_PROBABILITY, log_loss

_COLDEST, _HOTTEST = 0.05, 20.0  # a temperature beyond shows another defect
_CURVE_ROWS: Final = 50  # least number of known rows for a curve: fewer make steps of single rows

Array = NDArray[Any]


@dataclass(frozen=True)
class Calibration:
    """Calibration of a task's probabilities.

    Attributes:
        temperature: logits are divided by it; 1 changes nothing.
        curves: for each class, or once for a binary task: knots (x, y) of a rising piecewise linear curve; () = no curve.
    """

    temperature: float = 1.0
    curves: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()


NO_CALIBRATION: Final = Calibration()


def fit_calibration(kind: str, probabilities: Array, labels: Array, task: str = "") -> Calibration:
    """Fit a calibration of a kind of `Task.calibration` on held-out rows; `task` is its name, for the error.

    `probabilities` are (N,) of label 1, or (N, C); `labels` (N,) 0 or 1, or codes, all known.

    Raises:
        ContractError: There are no rows, or too few of them for a curve, or all have one label.
    """
    if kind == "none":
        return NO_CALIBRATION
    least = _CURVE_ROWS if kind == "isotonic" else 1
    if len(labels) < least or len(np.unique(labels)) < 2:
        raise ContractError(
            f"task {task!r} has calibration {kind!r}, and the validation range has {len(labels)} known labels of "
            f"{len(np.unique(labels))} kinds; it takes {least} of two kinds. Operator action: give a longer validation range, or "
            f'set calibration = "none" for this task.'
        )
    if kind == "temperature":
        return Calibration(temperature=_temperature(probabilities, labels))
    if probabilities.ndim == 1:
        return Calibration(curves=(_curve(probabilities, labels == 1),))
    return Calibration(curves=tuple(_curve(probabilities[:, c], labels == c) for c in range(probabilities.shape[1])))


def calibrated(probabilities: Array, calibration: Calibration) -> Array:
    """Return the calibrated probabilities, of the same shape; rows of (N, C) sum to one.

    Dividing logits by T is raising probabilities to 1 / T and sharing out again (Guo et al., "On Calibration of Modern Neural
    Networks", ICML 2017), so the logits are not needed.
    """
    result = probabilities
    if calibration.temperature != 1.0:
        result = _divided(result, calibration.temperature)
    if calibration.curves and result.ndim == 1:
        result = np.interp(result, *calibration.curves[0])
    elif calibration.curves:
        # One against the rest, shared out again (Zadrozny and Elkan, "Transforming Classifier Scores into Accurate Multiclass
        # Probability Estimates", KDD 2002). A row for which every curve gives 0 is shared equally by all classes.
        each = np.stack([np.interp(result[:, c], x, y) for c, (x, y) in enumerate(calibration.curves)], axis=1)
        each = np.maximum(each, LEAST_PROBABILITY)
        result = each / each.sum(axis=1, keepdims=True)
    return result


def _divided(probabilities: Array, temperature: float) -> Array:
    both = np.stack([1.0 - probabilities, probabilities], axis=1) if probabilities.ndim == 1 else probabilities
    logs = np.log(np.maximum(both, np.finfo(np.float64).tiny).astype(np.float64)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares[:, 1] if probabilities.ndim == 1 else shares


def _temperature(probabilities: Array, labels: Array) -> float:
    """Return the T of the lowest log loss, which has one minimum in 1 / T (it is convex there)."""
    from scipy.optimize import minimize_scalar

    best = minimize_scalar(
        lambda log_t: log_loss(_divided(probabilities, float(np.exp(log_t))), labels),
        bounds=(np.log(_COLDEST), np.log(_HOTTEST)),
        method="bounded",
        options={"xatol": 1e-8},
    )
    return float(np.exp(best.x))


def _curve(predictions: Array, positive: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    from sklearn.isotonic import IsotonicRegression

    curve = IsotonicRegression(y_min=0.0, y_max=1.0).fit(predictions.astype(np.float64), positive.astype(np.float64))
    return tuple(curve.X_thresholds_.tolist()), tuple(curve.y_thresholds_.tolist())
