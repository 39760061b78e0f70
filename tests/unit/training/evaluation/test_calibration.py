"""Calibration: what is fitted makes claims true on rows it has not seen, keeps the order, and survives JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression

from stream_app.errors import ContractError
from stream_app.evaluation.metrics import calibration_error, log_loss
from training.evaluation.calibration import NO_CALIBRATION, calibrated, fit_calibration

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def too_sure(count: int, seed: int) -> tuple[Floats, Ints]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=count) * 1.5
    labels = (rng.random(count) < 1.0 / (1.0 + np.exp(-logits))).astype(np.int64)
    return 1.0 / (1.0 + np.exp(-3.0 * logits)), labels


def too_sure_of_classes(count: int, seed: int) -> tuple[Floats, Ints]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 4))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(4, p=row) for row in shares])
    sharp = np.exp(3.0 * logits)
    return sharp / sharp.sum(axis=1, keepdims=True), labels


def test_a_temperature_is_the_one_that_a_scan_finds_best() -> None:
    says, labels = too_sure(4_000, 1)
    logits = np.log(says / (1.0 - says))
    best = minimize_scalar(lambda t: log_loss(1.0 / (1.0 + np.exp(-logits / t)), labels), bounds=(0.1, 10.0), method="bounded")
    fitted = fit_calibration("temperature", says, labels)
    assert fitted.temperature == pytest.approx(best.x, rel=1e-3)
    assert calibrated(says, fitted) == pytest.approx(1.0 / (1.0 + np.exp(-logits / fitted.temperature)))


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
@pytest.mark.parametrize("draw", [too_sure, too_sure_of_classes])
def test_a_calibration_makes_claims_true_on_rows_it_has_not_seen(kind: str, draw: object) -> None:
    assert callable(draw)
    says, labels = draw(4_000, 1)
    fresh, truth = draw(4_000, 2)
    fitted = fit_calibration(kind, says, labels)
    better = calibrated(fresh, fitted)
    assert better.shape == fresh.shape
    assert calibration_error(better, truth) < 0.04 < calibration_error(fresh, truth)
    assert log_loss(better, truth) < log_loss(fresh, truth)
    if fresh.ndim == 2:
        assert better.sum(axis=1) == pytest.approx(np.ones(len(fresh)))


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_a_calibration_keeps_the_order(kind: str) -> None:
    says, labels = too_sure(2_000, 3)
    better = calibrated(np.sort(says), fit_calibration(kind, says, labels))
    assert (np.diff(better) >= 0.0).all()


def test_a_curve_is_that_of_scikit_learn() -> None:
    says, labels = too_sure(500, 4)
    theirs = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(says, labels)
    fresh, _ = too_sure(500, 5)
    assert calibrated(fresh, fit_calibration("isotonic", says, labels)) == pytest.approx(theirs.predict(fresh))


@pytest.mark.parametrize("kind", ["none", "temperature", "isotonic"])
def test_a_calibration_is_whole_in_json(kind: str) -> None:
    says, labels = too_sure_of_classes(400, 6)
    fitted = fit_calibration(kind, says, labels)
    found = json.loads(json.dumps(asdict(fitted)))
    assert found == {"temperature": fitted.temperature, "curves": [[list(x), list(y)] for x, y in fitted.curves]}
    assert (fitted == NO_CALIBRATION) == (kind == "none")


def test_extremes_stay_numbers() -> None:
    says, labels = too_sure(400, 7)
    for kind in ("temperature", "isotonic"):
        fitted = fit_calibration(kind, says, labels)
        assert np.isfinite(calibrated(np.array([0.0, 1.0], np.float32), fitted)).all()


@pytest.mark.parametrize(
    ("kind", "labels", "said"),
    [
        ("temperature", np.zeros(0, np.int64), "0 known labels of 0 kinds"),
        ("temperature", np.ones(80, np.int64), "80 known labels of 1 kinds"),
        ("isotonic", np.array([0, 1] * 10), "20 known labels of 2 kinds; it takes 50"),
    ],
)
def test_what_cannot_be_fitted_names_the_task_and_the_fix(kind: str, labels: Ints, said: str) -> None:
    with pytest.raises(ContractError, match=said) as caught:
        fit_calibration(kind, np.full(len(labels), 0.5), labels, "fraud")
    assert "'fraud'" in str(caught.value)
    assert 'calibration = "none"' in str(caught.value)
