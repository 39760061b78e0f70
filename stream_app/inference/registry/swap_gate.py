"""The gate of a swap: score recently recorded rows with the new model, and compare with the recorded answers of the old one.

The old model is not called again, so the gate does not slow the serving model; it runs in the loader's thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.inference.artifact import load_manifest, load_samples
from stream_app.inference.ranker import ModelAnswers, ModelRanker
from stream_app.inference.registry.answer_deltas import AnswerSide, Deltas, row_deltas, summarise

_SLICE: Final = 256  # rows per call: bounds how long other work on this core waits

Inputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Limits of the gate; means and shares over the replayed rows.

    Attributes:
        rows: How many recorded rows are replayed.
        fraud_delta: Largest mean difference of the fraud probability.
        alert_flips: Largest share of rows that are an alert for exactly one of the models.
        intent_flips: Largest share of rows whose most probable intent differs.
        candidate_overlap: Smallest mean share of the old model's candidates that the new model returns too.
    """

    rows: int = 512
    fraud_delta: float = 0.05
    alert_flips: float = 0.02
    intent_flips: float = 0.5
    candidate_overlap: float = 0.0


@dataclass(frozen=True, slots=True)
class GateReplay:
    """Recorded rows, with one model's answers."""

    inputs: Inputs
    answers: ModelAnswers


class Recorder:
    """The last batches with the champion's answers; written by the model's thread, read by the loader's.

    Args:
        rows: Number of rows to hold: the newest batches that together have at least so many; 0 records nothing.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._batches: deque[tuple[str, GateReplay]] = deque()
        self._count = 0
        self._lock = threading.Lock()

    def add(self, version: str, inputs: Inputs, answers: ModelAnswers) -> None:
        """Record a batch without copying; each batch owns its tensors."""
        rows = len(answers)
        if not rows or not self._rows:
            return
        with self._lock:
            self._batches.append((version, GateReplay(inputs, answers)))
            self._count += rows
            while self._count - len(self._batches[0][1].answers) >= self._rows:
                self._count -= len(self._batches.popleft()[1].answers)

    def of(self, version: str) -> list[GateReplay]:
        """Return the batches that this version answered, oldest first."""
        with self._lock:
            return [batch for champion, batch in self._batches if champion == version]


def recorded_samples(folder: Path, ranker: ModelRanker) -> GateReplay:
    """Return the rows that were recorded when the artefact of `ranker` was built, with the answers of that moment.

    Raises:
        ContractError: The artefact is damaged.
    """
    inputs, outputs = load_samples(folder, load_manifest(folder))
    return GateReplay(inputs, ranker.with_candidates(outputs))


def replay_through(new: ModelRanker, old: ModelRanker, batches: list[GateReplay], most_rows: int) -> Deltas:
    """Score the newest `most_rows` recorded rows with the new model and compare.

    Raises:
        ContractError, ModelFailedError: The new model cannot score them.
    """
    parts = []
    for batch in reversed(batches):
        for end in range(len(batch.answers), 0, -_SLICE):
            rows = slice(max(0, end - _SLICE), end)
            inputs = {name: values[rows] for name, values in batch.inputs.items()}
            parts.append(row_deltas(AnswerSide(batch.answers.part(rows), old.norms), AnswerSide(new.answer(inputs), new.norms)))
            most_rows -= end - rows.start
            if most_rows <= 0:
                break
        if most_rows <= 0:
            break
    columns = zip(*parts, strict=True)
    return summarise(type(parts[0])(*(np.concatenate(column) for column in columns)))


def why_refused(deltas: Deltas, limits: GateLimits) -> str:
    """Name every limit that `deltas` exceeds, with both values; "" if there is none."""
    broken = [
        f"{what} is {value:.4g}, allowed is at most {limit:.4g}"
        for what, value, limit in (
            ("the mean difference of the fraud probability", deltas.fraud_mean, limits.fraud_delta),
            ("the share of alerts that flip", deltas.alert_flips, limits.alert_flips),
            ("the share of intents that flip", deltas.intent_flips, limits.intent_flips),
        )
        if value > limit
    ]
    if deltas.candidate_overlap < limits.candidate_overlap:
        share = f"{deltas.candidate_overlap:.4g}, asked for are at least {limits.candidate_overlap:.4g}"
        broken.append(f"the share of candidates that both have is {share}")
    return "; ".join(broken)
