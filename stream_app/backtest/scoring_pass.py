"""The one pass over a log: features as they would have been served, and what every candidate says of the events that count.

Events go through the same fold as live and replay, in canonical order, so the first event that is judged has its past; where
candidates read several catalogues, each event goes through the fold of each (`catalogues`). Kept are numbers of the events from
the first one that counts; ids and features of these wait on disk (`spool`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.contract import INPUTS
from stream_app.backtest.config import DAY_MS, BacktestConfig
from stream_app.backtest.contenders.contender import SHOWN, Contender, Predictions, ScoringRequest
from stream_app.backtest.contenders.feature_sets import WORKERS, FeatureSets, FoldedFeatures
from stream_app.backtest.contenders.score_files import id_hashes
from stream_app.backtest.labels import LabelIndex, wrong_value
from stream_app.backtest.segments import SegmentAssigner
from stream_app.backtest.session_labeller import SessionLabeller
from stream_app.backtest.spool import Spool
from stream_app.codec.decode import ANY_SKEW_MS, Decoder, decode_label
from stream_app.errors import InvalidEventError
from stream_app.evaluation.recommendation_metrics import ItemLog, RecommendationMetrics
from stream_app.evaluation.session_labels import UNKNOWN, SessionLabel
from stream_app.events import Event, Order
from stream_app.logs.log_records import LABELS, LogRecord
from stream_app.logs.log_source import ReplayLog

__all__ = ["ScoredLog", "ScoringPass"]

_BATCH: Final = 4_096  # events folded and asked about at once

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ScoredLog:
    """What a pass gathers of N events that count, in canonical order.

    Attributes:
        time_ms: (N,) int64.
        user: (N,) int64, numbered in order of appearance.
        kind: (N,) int32, codes of events.KINDS.
        amount: (N,) float64, of orders; else 0.
        event: (N,) uint64, hashes of ids.
        scores: name -> (N,) float32, NaN where a candidate says nothing.
        classes: task -> name -> (N, C) float32.
        sessions: (N, fields of SessionLabel) int64, UNKNOWN where nothing is known.
        segments: name -> (codes (N,) int64, names of the codes).
        shown: name -> what a candidate's lists came to.
        busiest: what showing everybody the busiest items would have come to.
        labels: what became known.
        newest_ms: the newest time of the log, of all its events and labels.
        counts: of events and labels, for the report.
    """

    time_ms: NDArray[np.int64]
    user: NDArray[np.int64]
    kind: NDArray[np.int32]
    amount: NDArray[np.float64]
    event: NDArray[np.uint64]
    scores: Mapping[str, NDArray[np.float32]]
    classes: Mapping[str, Mapping[str, Array]]
    sessions: NDArray[np.int64]
    segments: Mapping[str, tuple[NDArray[np.int64], list[str]]]
    shown: Mapping[str, RecommendationMetrics]
    busiest: RecommendationMetrics
    labels: LabelIndex
    newest_ms: int
    counts: Mapping[str, int]


@dataclass
class _Columns:
    """Parts of arrays, batch by batch."""

    parts: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, **columns: Array) -> None:
        for name, part in columns.items():
            self.parts.setdefault(name, []).append(part)

    def whole(self, name: str, dtype: Any) -> Array:  # noqa: ANN401 (numpy's)
        return np.concatenate(self.parts[name]).astype(dtype, copy=False) if name in self.parts else np.zeros(0, dtype)


class ScoringPass:
    """One pass.

    Args:
        config: Who counts, from when to when.
        candidates: By name.
        features: Of all catalogues that they read.
        spool: Where ids and features go.
    """

    def __init__(self, config: BacktestConfig, candidates: Mapping[str, Contender], features: FeatureSets, spool: Spool) -> None:
        judge = config.judge
        self._tasks, self._candidates, self._spool = judge.tasks, candidates, spool
        self._begin_ms, self._end_ms = judge.begin_ms, judge.end_ms
        self._keep_ms = judge.begin_ms - days_before(config) * DAY_MS
        self._features = features
        self._reads = {name: config.candidates[name].catalogue for name in candidates}
        workers = features.engines[WORKERS]
        self._segments = {name: SegmentAssigner(segment, workers) for name, segment in config.segments.items()}
        self._columns, self._users = _Columns(), dict[str, int]()
        self._items = ItemLog()
        self._after = (
            SessionLabeller(self._items, round(judge.session_gap_minutes * 60_000)) if set(self._tasks) - {"fraud"} else None
        )
        shows = "candidates" in self._tasks
        new_item_ms = round(judge.new_item_days * DAY_MS)
        self._shown = {
            n: RecommendationMetrics(self._items, c.items, new_item_ms) for n, c in candidates.items() if shows and len(c.items)
        }
        self._busiest = RecommendationMetrics(self._items, (), new_item_ms)
        self._told: list[tuple[int, SessionLabel]] = []
        self._labels = LabelIndex()
        self._newest_ms = 0
        self._counts = dict.fromkeys(("events", "judged", "late", "repeated", "labels"), 0)

    def run(self, log: ReplayLog, progress: Callable[[int, int], None] = lambda _events, _time_ms: None) -> ScoredLog:
        """Read the log to its end and return what was gathered.

        Args:
            log: In canonical order.
            progress: Told the number of events read, and the time of the last one.

        Raises:
            InputFileError: Something is wrong with the log, and its problems are strict.
        """
        for events in self._batches(log):
            hashes = id_hashes(event.event_id for event in events)
            self._columns.add(any_event=hashes)
            if events and (self._after is not None or events[0].event_time_ms < self._end_ms):
                self._take(events, hashes)  # from the end on for what comes after events: the fold knows who came before
            self._counts["events"] += len(events)
            self._newest_ms = max(self._newest_ms, events[-1].event_time_ms if events else 0)
            progress(self._counts["events"], events[-1].event_time_ms if events else 0)
        columns = self._columns
        ids: NDArray[np.uint64] = columns.whole("event", np.uint64)
        self._labels.settle(log, ids, columns.whole("any_event", np.uint64))
        sessions = np.full((len(ids), len(SessionLabel._fields)), UNKNOWN, np.int64)
        for row, label in self._told:
            sessions[row] = label
        return ScoredLog(
            time_ms=columns.whole("time_ms", np.int64),
            user=columns.whole("user", np.int64),
            kind=columns.whole("kind", np.int32),
            amount=columns.whole("amount", np.float64),
            event=ids,
            scores={name: columns.whole(f"score {name}", np.float32) for name in self._candidates},
            classes={
                task: {
                    name: columns.whole(f"{task} {name}", np.float32)
                    for name in self._candidates
                    if f"{task} {name}" in columns.parts
                }
                for task in ("intent", "next_action")
            },
            sessions=sessions,
            segments={name: (columns.whole(f"segment {name}", np.int64), part.names) for name, part in self._segments.items()},
            shown=self._shown,
            busiest=self._busiest,
            labels=self._labels,
            newest_ms=max(self._newest_ms, self._labels.newest_ms),
            counts=self._counts | {"kept": len(ids), "labels of unknown events": self._labels.unknown},
        )

    def _batches(self, log: ReplayLog) -> Iterator[list[Event]]:
        """Decode records, batch by batch as the state takes them; labels are put into their book."""
        decoder = Decoder(future_skew_ms=ANY_SKEW_MS)
        events: list[Event] = []
        for record in log.records():
            try:
                if record.topic == LABELS:
                    said = decode_label(record.value)
                    if (wrong := wrong_value(said)) is not None:
                        _tell(log, record, f"no label: {wrong}")
                        continue
                    self._labels.add(said, record)
                    self._counts["labels"] += 1
                    continue
                event = decoder.decode(record.topic, record.key, record.value, record.timestamp)
            except InvalidEventError as err:
                _tell(log, record, f"no {'label' if record.topic == LABELS else 'event'}: {err}")
                continue
            # What is popular is counted up to a batch (shown.py): in a thin log that must not be the whole of it.
            if len(events) == _BATCH or (events and event.event_time_ms - events[0].event_time_ms > DAY_MS):
                yield events
                events = []
            events.append(event)
        yield events

    def _take(self, events: Sequence[Event], hashes: NDArray[np.uint64]) -> None:
        """Fold a batch, and ask about those of its events that count."""
        folded = self._features.fold(events)
        columns, workers = folded.columns, folded.workers
        repeated = workers.duplicate_of >= 0
        self._counts["late"] += int(workers.late.sum())
        self._counts["repeated"] += int(repeated.sum())
        counts = (columns.time_ms >= self._keep_ms) & (columns.time_ms < self._end_ms) & ~workers.late & ~repeated
        kept = np.flatnonzero(counts)
        first_row = len(self._spool)
        if len(kept):
            self._ask([events[place] for place in kept.tolist()], _asked(folded, kept, hashes))
        if self._after is not None:
            rows = np.full(len(events), -1, np.int64)
            rows[kept] = first_row + np.arange(len(kept))
            rows[columns.time_ms < self._begin_ms] = -1
            for place in np.flatnonzero(~repeated).tolist():  # an event that came twice is one step of its session
                self._settle(events[place], int(rows[place]))

    def _ask(self, events: Sequence[Event], asked: Mapping[str, ScoringRequest]) -> None:
        """Ask all candidates about events that count, each by the features of the catalogue that it reads."""
        time_ms = np.array([event.event_time_ms for event in events], np.int64)
        judged = time_ms >= self._begin_ms
        self._counts["judged"] += int(judged.sum())
        first = len(self._spool)
        for name, candidate in self._candidates.items():
            answers = candidate.answer(asked[self._reads[name]], self._tasks)
            self._columns.add(**{f"score {name}": answers.fraud})
            self._add_classes(name, answers)
            if name in self._shown and answers.items is not None:
                rows = np.flatnonzero(judged)
                self._shown[name].add((first + rows).tolist(), answers.items[rows], time_ms[rows])
        if self._shown:
            rows = np.flatnonzero(judged)
            same = self._items.busiest(SHOWN)
            self._busiest.add_numbered((first + rows).tolist(), np.tile(same, (len(rows), 1)), time_ms[rows])
        dense = {name: of.inputs["dense"] for name, of in asked.items()}
        self._columns.add(
            time_ms=time_ms,
            user=np.array([self._users.setdefault(event.user, len(self._users)) for event in events], np.int64),
            kind=asked[WORKERS].kind,
            amount=np.array([event.amount if isinstance(event, Order) else 0.0 for event in events]),
            event=asked[WORKERS].event,
            **{f"segment {name}": part.codes(events, dense[WORKERS]) for name, part in self._segments.items()},
        )
        self._spool.add([event.event_id for event in events], [event.user for event in events], dense)

    def _add_classes(self, name: str, answers: Predictions) -> None:
        for task, says in (("intent", answers.intent), ("next_action", answers.next_action)):
            if says is not None:
                self._columns.add(**{f"{task} {name}": says})

    def _settle(self, event: Event, row: int) -> None:
        assert self._after is not None
        for told, label in self._after.add(event, row):
            self._told.append((told, label))
            for shown in (*self._shown.values(), self._busiest):
                shown.resolve(told, label.next_item)


def _asked(folded: FoldedFeatures, kept: NDArray[np.intp], hashes: NDArray[np.uint64]) -> dict[str, ScoringRequest]:
    """Return what is asked of the events (K,) that are kept, by the name of the catalogue."""
    kind, event = folded.columns.kind[kept], hashes[kept]
    return {
        name: ScoringRequest({spec.name: getattr(found, spec.name)[kept] for spec in INPUTS}, kind, event)
        for name, found in folded.by_catalogue.items()
    }


def days_before(config: BacktestConfig) -> int:
    """Return how many days before the first judged moment events count: for thresholds that adapt, and for what is known."""
    judge = config.judge
    ripe = math.ceil(judge.maturity_days or 0.0)  # days until silence says something, which a precision needs
    adapting = [
        c.lookback_days + (ripe if c.adapt == "precision" else 0)
        for c in config.candidates.values()
        if c.adapt or (c.threshold is None and c.kind not in ("model", "rules"))
    ]
    # Who is blocked is known of the days that are looked back at too.
    return max([0, *adapting]) + (judge.known_days if judge.leave_out_known else 0)


def _tell(log: ReplayLog, record: LogRecord, reason: str) -> None:
    file, place = log.where(record)
    log.problems.add(file, place, reason)
