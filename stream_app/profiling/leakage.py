"""Columns of a log that leak the label, or are known only after it; entities that a random split would put on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from stream_app.evaluation.metrics import roc_auc

if TYPE_CHECKING:
    from stream_app.profiling.columns import Column

_SUSPECT: Final = 0.95  # AUC that a column without a leak hardly reaches alone
_CERTAIN: Final = 0.999
_FEWEST: Final = 20  # rows of either label; with fewer there is no verdict
_LATER_SHARE: Final = 0.5
_POSITIVE: Final = ("1", "true", "yes", "y", "fraud", "t", "positive")

WarningKind = Literal["label", "second label", "predicts the label", "known later", "row id", "drift", "split", "constant"]


@dataclass(frozen=True, slots=True)
class ColumnWarning:
    """A warning about a column. about: its kind. auc: how well the column alone ranks the label, 0 for other kinds."""

    column: str
    about: WarningKind
    message: str
    auc: float = 0.0


def binary_label(columns: list[Column]) -> tuple[Column, NDArray[np.bool_]] | None:
    """Return the column of two values that is most likely the label, and the rows in which it is true; None without one."""
    labels = [column for column in columns if column.role == "label" and column.distinct == 2]
    if not labels:
        return None
    chosen = max(labels, key=lambda c: bool(c.words & {"fraud", "label", "class", "target", "isfraud", "y", "revenue"}))
    texts = [str(value).lower() for value in chosen.values]
    positive = next((place for place, text in enumerate(texts) if text in _POSITIVE), None)
    if positive is None:
        counts = np.bincount(chosen.codes[chosen.codes >= 0], minlength=2)
        positive = int(np.argmin(counts))  # of two unknown words the rarer one is positive
    return chosen, chosen.codes == positive


def warnings_of(columns: list[Column], time: Column | None) -> list[ColumnWarning]:
    """Return all warnings about a log's columns, the gravest first."""
    found: list[ColumnWarning] = []
    label = binary_label(columns)
    if label is not None:
        chosen, truth = label
        share = truth.mean()
        found.append(
            ColumnWarning(chosen.name, "label", f"taken for the truth ({share:.2%} true): never a feature; --label names another")
        )
        found += _second_labels(columns, chosen)
        if _FEWEST <= truth.sum() <= len(truth) - _FEWEST:
            found += _predictors(columns, chosen, truth.astype(np.int8), time)
            found += _drift(chosen, truth, time)
            found += _split_entities(columns, chosen, truth)
    else:
        found += [
            ColumnWarning(c.name, "label", f"named like a truth ({c.distinct} values): a feature must not be made of it")
            for c in columns
            if c.role == "label"
        ]
    found += _later(columns, time)
    found += _row_ids(columns)
    found += [ColumnWarning(c.name, "constant", "has one value only; it says nothing") for c in columns if c.role == "constant"]
    return found


def _second_labels(columns: list[Column], chosen: Column) -> list[ColumnWarning]:
    return [
        ColumnWarning(
            c.name, "second label", f"named like a truth too ({c.distinct} values): known when {chosen.name} is, never a feature"
        )
        for c in columns
        if c.role == "label" and c is not chosen
    ]


def _predictors(columns: list[Column], chosen: Column, truth: NDArray[np.int8], time: Column | None) -> list[ColumnWarning]:
    found = []
    for column in columns:
        if column is chosen or column is time or column.role in ("constant", "row id"):
            continue
        auc = _auc_alone(column, truth, time)
        filled = column.codes >= 0
        if column.filled < column.rows and roc_auc(filled.astype(np.float64), truth) >= _SUSPECT:
            message = f"is filled when {chosen.name} is true and empty when it is not: it is known only once the truth is"
            found.append(ColumnWarning(column.name, "known later", message, round(auc, 4)))
        elif auc >= _SUSPECT:
            sure = "alone" if auc >= _CERTAIN else "almost alone"
            message = (
                f"tells {chosen.name} {sure} (AUC {auc:.3f}): most likely it is written down after the truth, or is made of it; "
                "keep it out unless it is known at the event"
            )
            found.append(ColumnWarning(column.name, "predicts the label", message, round(auc, 4)))
    return sorted(found, key=lambda w: -w.auc)


def _auc_alone(column: Column, truth: NDArray[np.int8], time: Column | None) -> float:
    """AUC of one column: of its numbers, or of the label rate of each value as learnt on the earlier half of the rows."""
    best = 0.5
    if column.numbers is not None:
        auc = roc_auc(np.nan_to_num(column.numbers, nan=-np.inf), truth)
        best = max(auc, 1.0 - auc)
    order = np.arange(len(truth)) if time is None or time.time_ms is None else np.argsort(time.time_ms, kind="stable")
    early, late = order[: len(order) // 2], order[len(order) // 2 :]
    codes = column.codes + 1
    seen = np.bincount(codes[early], minlength=column.distinct + 1)
    true = np.bincount(codes[early], weights=truth[early], minlength=column.distinct + 1)
    if column.distinct < len(truth) / 20:  # else most values are too rare to have a rate
        rates = (true + truth.mean()) / (seen + 1.0)
        best = max(best, roc_auc(rates[codes[late]], truth[late]))
    return best


def _later(columns: list[Column], time: Column | None) -> list[ColumnWarning]:
    found = []
    for column in columns:
        if time is None or column is time or column.time_ms is None or time.time_ms is None:
            continue
        both = (column.time_ms >= 0) & (time.time_ms >= 0)
        after = column.time_ms[both] > time.time_ms[both]
        if both.any() and after.mean() >= _LATER_SHARE:
            typical_s = float(np.median(column.time_ms[both][after] - time.time_ms[both][after])) / 1_000
            message = f"is after the event in {after.mean():.0%} of the rows, typically by {typical_s:,.0f} s: not known yet then"
            found.append(ColumnWarning(column.name, "known later", message))
    return found


def _row_ids(columns: list[Column]) -> list[ColumnWarning]:
    found = []
    for column in columns:
        if column.role == "row id":
            named = f"; though named like a {column.kind}, it has no history to read" if column.kind else ""
            message = (
                f"is different in nearly every row ({column.distinct:,} of {column.filled:,}): an id to be learnt by heart{named}"
            )
            found.append(ColumnWarning(column.name, "row id", message))
    return found


def _drift(chosen: Column, truth: NDArray[np.bool_], time: Column | None) -> list[ColumnWarning]:
    if time is None or time.time_ms is None:
        return []
    parts = np.array_split(truth[np.argsort(time.time_ms, kind="stable")], 5)
    rates = [float(part.mean()) for part in parts]
    if max(rates) < 3 * max(min(rates), 1e-9):
        return []
    shares = ", ".join(f"{rate:.1%}" for rate in rates)
    message = f"is true in {shares} of the fifths of the log, in time: split by time; a random split shows the model the future"
    return [ColumnWarning(chosen.name, "drift", message)]


def _split_entities(columns: list[Column], chosen: Column, truth: NDArray[np.bool_]) -> list[ColumnWarning]:
    found = []
    for column in columns:
        if column.role != "entity":
            continue
        filled = column.codes >= 0
        counts = np.bincount(column.codes[filled], minlength=column.distinct)
        true = np.bincount(column.codes[filled], weights=truth[filled], minlength=column.distinct)
        positive = (counts >= 3) & (true > 0)
        if positive.sum() < _FEWEST:
            continue
        pure = float((true[positive] == counts[positive]).mean())
        if pure >= 0.5:
            message = (
                f"of its values that are {chosen.name} at all, {pure:.0%} are so in every row: a random split has the same ones "
                "on both sides; split by time, and see how new values do"
            )
            found.append(ColumnWarning(column.name, "split", message))
    return found
