"""Models that score beside the champion: what they say is compared, counted and written down, and decides nothing here.

One thread does it, after the batch's answers are published, from a short queue: what does not fit is dropped and counted, so
that a slow shadow costs the answers nothing but its share of the processor (the thread gives way to all others).

Both answers to a row go as one line of JSON into a file of this worker: `ComparisonLine`.
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

__all__ = ["Comparer", "ComparisonLine", "ComparisonLog", "Opinion", "ShadowComparison"]

log = logging.getLogger(__name__)

_QUEUED: Final = 4  # batches: what a model of the champion's speed needs to catch up after a swap or a slow disk
_WAKE_S: Final = 0.2  # how long a thread that is told to end may take to notice
_MOST_BYTES: Final = 64 << 20  # of one file; the one before is kept, so a worker takes twice as much


class Opinion(Struct, frozen=True):
    """What one model says of one event; probabilities are rounded to five decimals."""

    model_version: str
    fraud: float
    intent: str
    next_action: str
    click: float
    items: list[str]


class ComparisonLine(Struct, frozen=True):
    """One event, and what both models say of it. `stage` is the other one's."""

    stage: Literal["challenger", "shadow"]
    answer_id: str
    event_id: str
    event_time_ms: int
    champion: Opinion
    other: Opinion


class ComparisonLog:
    """A file of lines of JSON that begins anew when it is full; the full one is kept beside it as `<name>.1`.

    Args:
        path: The file; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()

    def write(self, lines: Sequence[ComparisonLine]) -> None:
        """Append lines; a disk that fails is told in the log, and nothing else comes of it."""
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
    """A batch that a second model looks at.

    Attributes:
        stage: The second model's.
        champion: The champion's answers to the B rows.
        model: The second model.
        inputs: The B rows.
        rows: Which of them are the second model's; None: all.
        answers: What it has answered to these; None: it has not yet.
    """

    stage: Literal["challenger", "shadow"]
    champion: AnswerSide
    model: ModelRanker
    inputs: Mapping[str, NDArray[Any]]
    rows: NDArray[np.intp] | None = None
    answers: ModelAnswers | None = None


class Comparer(Background):
    """Scores and compares in a thread of its own; what waits at the end is dropped.

    Args:
        lines: Where the pairs of answers go.
        metrics: Where to count.
    """

    def __init__(self, lines: ComparisonLog, metrics: Metrics) -> None:
        super().__init__("model comparer", "is still inside a model; it ends with the process")
        self._lines = lines
        self._metrics = metrics
        self._waiting: queue.Queue[tuple[ShadowComparison, Sequence[Source], Sequence[Event]]] = queue.Queue(_QUEUED)

    def offer(self, batches: Sequence[ShadowComparison], sources: Sequence[Source], events: Sequence[Event]) -> None:
        """Queue comparisons of one answered batch; never blocks.

        Args:
            batches: The comparisons.
            sources: Where the B rows' events stand.
            events: The B rows' events.
        """
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
            except Exception:  # of any class, by the engine; the next batch may work, and nobody else compares
                self._drop(batch, len(sources))
                log.warning("%s %s was not compared over a batch", batch.stage, batch.model.version, exc_info=True)

    def compare(self, batch: ShadowComparison, sources: Sequence[Source], events: Sequence[Event]) -> None:
        """Score if need be, compare, count and write down; a model that fails is counted."""
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

    def _count(self, stage: str, found: RowDeltas) -> None:
        metrics = self._metrics
        metrics.comparisons.labels(stage).inc(len(found.fraud))
        deltas: dict[str, NDArray[Any]] = {
            "fraud": found.fraud,
            "click": found.click,
            "intent": found.intent,
            "next_action": found.next_action,
            "candidates": 1.0 - found.overlap,
        }
        for task, values in deltas.items():
            metrics.comparison_deltas.labels(stage, task).inc(float(values.sum()))
        flips = {
            "alert": found.alert_a != found.alert_b,
            "intent": found.intent_flips,
            "next_action": found.next_action_flips,
        }
        for decision, flipped in flips.items():
            metrics.comparison_flips.labels(stage, decision).inc(int(flipped.sum()))


def _opinions(side: AnswerSide) -> list[Opinion]:
    said, version = side.answers.scored(), side.norms.version
    return [
        Opinion(version, fraud, INTENTS[intent.index(max(intent))], NEXT_ACTIONS[action], click, items)
        for fraud, intent, action, click, items in zip(
            said.fraud, said.intent, said.next_action, said.click, said.items, strict=True
        )
    ]
