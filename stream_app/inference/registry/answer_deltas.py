"""Compare two models on the same rows: differences of their scores, and how often their decisions differ.

Used by the gate of a swap (`swap_gate`), by challenger and shadow (`shadow`), and by `millrace models diff`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stream_app.inference.ranker import ModelAnswers
from stream_app.ranked import ModelNorms


class AnswerSide(NamedTuple):
    """One model's answers to B rows, with its alert threshold."""

    answers: ModelAnswers
    norms: ModelNorms


class RowDeltas(NamedTuple):
    """Differences between model a and model b for each of B rows.

    fraud, click: absolute difference of the probabilities, (B,) float32. intent, next_action: total variation (half the sum of
    absolute differences, in [0, 1]), (B,) float32. overlap: share of a's candidates that b returns too, (B,) float64, 1 where a
    has none. alert_a, alert_b: whether the model's fraud probability reaches its own threshold. *_flips: whether the most
    probable class differs.
    """

    fraud: NDArray[np.float32]
    click: NDArray[np.float32]
    intent: NDArray[np.float32]
    next_action: NDArray[np.float32]
    overlap: NDArray[np.float64]
    alert_a: NDArray[np.bool_]
    alert_b: NDArray[np.bool_]
    intent_flips: NDArray[np.bool_]
    next_action_flips: NDArray[np.bool_]


class Deltas(Struct, frozen=True, kw_only=True):
    """Means, maxima and shares of RowDeltas over `rows` rows, 0 to 1; names as there.

    `alert_flips`: share of rows that are an alert for exactly one model; `alerts_a`, `alerts_b`: share of alerts of each model.
    """

    rows: int
    fraud_mean: float
    fraud_max: float
    click_mean: float
    click_max: float
    intent_mean: float
    next_action_mean: float
    alerts_a: float
    alerts_b: float
    alert_flips: float
    intent_flips: float
    next_action_flips: float
    candidate_overlap: float


def row_deltas(a: AnswerSide, b: AnswerSide) -> RowDeltas:
    """Compare row by row; both sides answer the same B rows."""
    left, right = a.answers.outputs, b.answers.outputs
    return RowDeltas(
        fraud=np.abs(left["fraud"] - right["fraud"]),
        click=np.abs(left["click"] - right["click"]),
        intent=_variation(left["intent"], right["intent"]),
        next_action=_variation(left["next_action"], right["next_action"]),
        overlap=np.array([_overlap(x, y) for x, y in zip(a.answers.items, b.answers.items, strict=True)], np.float64),
        alert_a=left["fraud"] >= np.float32(a.norms.threshold),
        alert_b=right["fraud"] >= np.float32(b.norms.threshold),
        intent_flips=left["intent"].argmax(axis=1) != right["intent"].argmax(axis=1),
        next_action_flips=left["next_action"].argmax(axis=1) != right["next_action"].argmax(axis=1),
    )


def summarise(rows: RowDeltas) -> Deltas:
    """Aggregate over the rows; without rows everything is 0."""

    def mean(values: NDArray[np.float32] | NDArray[np.float64] | NDArray[np.bool_]) -> float:
        return round(float(np.mean(values)), 6) if len(values) else 0.0

    def most(values: NDArray[np.float32]) -> float:
        return round(float(np.max(values, initial=0.0)), 6)

    return Deltas(
        rows=len(rows.fraud),
        fraud_mean=mean(rows.fraud),
        fraud_max=most(rows.fraud),
        click_mean=mean(rows.click),
        click_max=most(rows.click),
        intent_mean=mean(rows.intent),
        next_action_mean=mean(rows.next_action),
        alerts_a=mean(rows.alert_a),
        alerts_b=mean(rows.alert_b),
        alert_flips=mean(rows.alert_a != rows.alert_b),
        intent_flips=mean(rows.intent_flips),
        next_action_flips=mean(rows.next_action_flips),
        candidate_overlap=mean(rows.overlap),
    )


def _variation(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    halved: NDArray[np.float32] = np.abs(left - right).sum(axis=1) * np.float32(0.5)
    return halved


def _overlap(left: list[str], right: list[str]) -> float:
    return len(set(left).intersection(right)) / len(left) if left else 1.0
