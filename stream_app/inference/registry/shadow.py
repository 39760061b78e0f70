"""Compare challenger and shadow with the champion: count differences, and write both answers to a file.

One low-priority thread does it after the batch's answers are published, from a short queue. Batches that do not fit are dropped
and counted, so a slow shadow does not delay answers. Each row is one line of JSON in a file of this worker (`ComparisonLine`).
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stream_app.codec.answers import answer_id
from stream_app.errors import MillraceError
from stream_app.events import INTENTS, NEXT_ACTIONS, Event, Source
from stream_app.inference.ranker import ModelAnswers, ModelRanker
from stream_app.inference.registry.answer_deltas import AnswerSide, RowDeltas, row_deltas
from stream_app.inference.registry.background import Background
from stream_app.metrics import Metrics

log = logging.getLogger(__name__)

_QUEUED: Final = 4  # batches: lets a model as fast as the champion catch up after a swap or a slow disk
_WAKE_S: Final = 0.2  # bounds how long the thread takes to end
_MOST_BYTES: Final = 64 << 20  # of one file; the previous file stays, so a worker uses twice as much


class Opinion(Struct, frozen=True):
    """One model's answer to one event; probabilities are rounded to five decimals."""

    model_version: str
    fraud: float
    intent: str
    next_action: str
    click: float
    items: list[str]


class ComparisonLine(Struct, frozen=True):
    """One event with both models' answers. `stage` is that of `other`."""

    stage: Literal["challenger", "shadow"]
    answer_id: str
    event_id: str
    event_time_ms: int
    champion: Opinion
    other: Opinion


class ComparisonLog:
    """A file of JSON lines, none without a path; when it is full it is renamed to `<name>.1`, and a new file begins."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()

    def write(self, lines: Sequence[ComparisonLine]) -> None:
        """Append lines; a failure of the disk is logged and ignored."""
        if self._path is None or not lines:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(self._encoder.encode_lines(lines))
                full = file.tell() >= _MOST_BYTES
            if full:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
        except OSError as error:
            log.warning("%d comparisons were not written: %s", len(lines), error)


@dataclass(frozen=True, slots=True, eq=False)
class ShadowComparison:
    """A batch to compare with a second model.

    Attributes:
        stage: The second model's stage.
        champion: The champion's answers to the B rows.
        model: The second model.
        inputs: The tensors of the B rows.
        rows: Row numbers that the second model scores; None: all.
        answers: The second model's answers to `rows`; None: not scored yet.
    """

    stage: Literal["challenger", "shadow"]
    champion: AnswerSide
    model: ModelRanker
    inputs: Mapping[str, NDArray[Any]]
    rows: NDArray[np.intp] | None = None
    answers: ModelAnswers | None = None


class Comparer(Background):
    """Scores and compares in a separate thread; comparisons that still wait at the end are dropped."""

    def __init__(self, lines: ComparisonLog, metrics: Metrics) -> None:
        super().__init__("model comparer", "is still inside a model; it ends with the process")
        self._lines = lines
        self._metrics = metrics
        self._waiting: queue.Queue[tuple[ShadowComparison, Sequence[Source], Sequence[Event]]] = queue.Queue(_QUEUED)

    def offer(self, batches: Sequence[ShadowComparison], sources: Sequence[Source], events: Sequence[Event]) -> None:
        """Queue comparisons of one answered batch of B events; never blocks."""
        for batch in batches:
            try:
                self._waiting.put_nowait((batch, sources, events))
            except queue.Full:
                self._drop(batch, len(sources))

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                batch, sources, events = self._waiting.get(timeout=_WAKE_S)
            except queue.Empty:
                continue
            try:
                self.compare(batch, sources, events)
            except Exception:  # engines raise any class; the next batch may work
                self._drop(batch, len(sources))
                log.warning("%s %s was not compared over a batch", batch.stage, batch.model.version, exc_info=True)

    def compare(self, batch: ShadowComparison, sources: Sequence[Source], events: Sequence[Event]) -> None:
        """Score where `answers` is None, compare, count and write; a failing model is counted as dropped."""
        rows = np.arange(len(events)) if batch.rows is None else batch.rows
        try:
            answers = batch.answers if batch.answers is not None else batch.model.answer(batch.inputs)
        except MillraceError as error:
            self._drop(batch, len(events))
            log.warning("%s %s failed for %d rows: %s", batch.stage, batch.model.version, len(rows), error)
            return
        champion = batch.champion._replace(answers=batch.champion.answers.take(rows))
        self._count(batch.stage, row_deltas(champion, AnswerSide(answers, batch.model.norms)))
        ours, theirs = _opinions(champion), _opinions(AnswerSide(answers, batch.model.norms))
        self._lines.write(
            [
                ComparisonLine(
                    batch.stage,
                    answer_id(sources[row].topic, sources[row].partition, sources[row].offset),
                    events[row].event_id,
                    events[row].event_time_ms,
                    own,
                    other,
                )
                for row, own, other in zip(rows.tolist(), ours, theirs, strict=True)
            ]
        )

    def _drop(self, batch: ShadowComparison, events: int) -> None:
        self._metrics.comparisons_dropped.labels(batch.stage).inc(events if batch.rows is None else len(batch.rows))

    def _count(self, stage: str, deltas: RowDeltas) -> None:
        metrics = self._metrics
        metrics.comparisons.labels(stage).inc(len(deltas.fraud))
        by_task: dict[str, NDArray[Any]] = {
            "fraud": deltas.fraud,
            "click": deltas.click,
            "intent": deltas.intent,
            "next_action": deltas.next_action,
            "candidates": 1.0 - deltas.overlap,
        }
        for task, values in by_task.items():
            metrics.comparison_deltas.labels(stage, task).inc(float(values.sum()))
        flips = {
            "alert": deltas.alert_a != deltas.alert_b,
            "intent": deltas.intent_flips,
            "next_action": deltas.next_action_flips,
        }
        for decision, flipped in flips.items():
            metrics.comparison_flips.labels(stage, decision).inc(int(flipped.sum()))


def _opinions(side: AnswerSide) -> list[Opinion]:
    rows, version = side.answers.scored(), side.norms.version
    return [
        Opinion(version, fraud, INTENTS[intent.index(max(intent))], NEXT_ACTIONS[action], click, items)
        for fraud, intent, action, click, items in zip(
            rows.fraud, rows.intent, rows.next_action, rows.click, rows.items, strict=True
        )
    ]
