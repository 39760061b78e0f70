"""The one pass over a log: features as a worker would have served them, and the predictions of every contender.

Events go through the same fold as live and replay, in canonical order, so the first evaluated event has its history; with several
catalogues each event goes through the fold of each (`feature_sets`). Predictions of the scored events stay in memory, their ids
and features on disk (`spool`).
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
from stream_app.backtest.contenders.contender import LIST_LENGTH, Contender, Predictions, ScoringRequest
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

_BATCH: Final = 4_096  # events folded and scored at once

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ScoredLog:
    """Results of a pass: N scored events, in canonical order.

    Attributes:
        time_ms: (N,) int64.
        user: (N,) int64, numbered in order of appearance.
        kind: (N,) int32, codes of events.KINDS.
        amount: (N,) float64, of orders; else 0.
        event: (N,) uint64, hashes of ids.
        scores: name -> (N,) float32, NaN for no score.
        classes: task -> name -> (N, C) float32.
        sessions: (N, fields of SessionLabel) int64, UNKNOWN for no label.
        segments: name -> (codes (N,) int64, names of the codes).
        lists: name -> metrics of a contender's lists.
        busiest: metrics of one list for everybody, the busiest items.
        labels: of the log.
        newest_ms: the newest time of all events and labels.
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
    lists: Mapping[str, RecommendationMetrics]
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
    """One pass; the spool receives ids and features."""

    def __init__(self, config: BacktestConfig, contenders: Mapping[str, Contender], features: FeatureSets, spool: Spool) -> None:
        protocol = config.judge
        self._tasks, self._contenders, self._spool = protocol.tasks, contenders, spool
        self._begin_ms, self._end_ms = protocol.begin_ms, protocol.end_ms
        self._scored_from_ms = protocol.begin_ms - days_before(config) * DAY_MS
        self._features = features
        self._reads = {name: config.candidates[name].catalogue for name in contenders}
        workers = features.engines[WORKERS]
        self._segments = {name: SegmentAssigner(segment, workers) for name, segment in config.segments.items()}
        self._columns, self._users = _Columns(), dict[str, int]()
        self._items = ItemLog()
        gap_ms, new_item_ms = round(protocol.session_gap_minutes * 60_000), round(protocol.new_item_days * DAY_MS)
        self._sessions = SessionLabeller(self._items, gap_ms) if set(self._tasks) - {"fraud"} else None
        recommending = contenders if "candidates" in self._tasks else {}
        self._lists = {
            name: RecommendationMetrics(self._items, contender.items, new_item_ms)
            for name, contender in recommending.items()
            if len(contender.items)
        }
        self._busiest = RecommendationMetrics(self._items, (), new_item_ms)
        self._session_labels: list[tuple[int, SessionLabel]] = []
        self._labels = LabelIndex()
        self._newest_ms = 0
        self._counts = dict.fromkeys(("events", "judged", "late", "repeated", "labels"), 0)

    def run(self, log: ReplayLog, progress: Callable[[int, int], None] = lambda _events, _time_ms: None) -> ScoredLog:
        """Read the log to its end and return the scored events; `progress` as in `Backtest.run`.

        Raises:
            InputFileError: The log has an issue, and its issues are strict.
        """
        for events in self._batches(log):
            hashes = id_hashes(event.event_id for event in events)
            self._columns.add(any_event=hashes)
            if events and (self._sessions is not None or events[0].event_time_ms < self._end_ms):
                self._take(events, hashes)  # after the end only for session labels: the fold needs all earlier events
            self._counts["events"] += len(events)
            self._newest_ms = max(self._newest_ms, events[-1].event_time_ms if events else 0)
            progress(self._counts["events"], events[-1].event_time_ms if events else 0)
        columns = self._columns
        ids: NDArray[np.uint64] = columns.whole("event", np.uint64)
        self._labels.settle(log, ids, columns.whole("any_event", np.uint64))
        sessions = np.full((len(ids), len(SessionLabel._fields)), UNKNOWN, np.int64)
        for row, label in self._session_labels:
            sessions[row] = label
        return ScoredLog(
            time_ms=columns.whole("time_ms", np.int64),
            user=columns.whole("user", np.int64),
            kind=columns.whole("kind", np.int32),
            amount=columns.whole("amount", np.float64),
            event=ids,
            scores={name: columns.whole(f"score {name}", np.float32) for name in self._contenders},
            classes={
                task: {
                    name: columns.whole(f"{task} {name}", np.float32)
                    for name in self._contenders
                    if f"{task} {name}" in columns.parts
                }
                for task in ("intent", "next_action")
            },
            sessions=sessions,
            segments={name: (columns.whole(f"segment {name}", np.int64), part.names) for name, part in self._segments.items()},
            lists=self._lists,
            busiest=self._busiest,
            labels=self._labels,
            newest_ms=max(self._newest_ms, self._labels.newest_ms),
            counts=self._counts | {"kept": len(ids), "labels of unknown events": self._labels.unknown},
        )

    def _batches(self, log: ReplayLog) -> Iterator[list[Event]]:
        """Yield batches of decoded events; add labels to the index."""
        decoder = Decoder(future_skew_ms=ANY_SKEW_MS)
        events: list[Event] = []
        for record in log.records():
            try:
                if record.topic == LABELS:
                    label = decode_label(record.value)
                    if (wrong := wrong_value(label)) is not None:
                        _report(log, record, f"no label: {wrong}")
                        continue
                    self._labels.add(label, record)
                    self._counts["labels"] += 1
                    continue
                event = decoder.decode(record.topic, record.key, record.value, record.timestamp)
            except InvalidEventError as err:
                _report(log, record, f"no {'label' if record.topic == LABELS else 'event'}: {err}")
                continue
            # Popularity is counted up to the batch (recommendation_metrics), so a batch of a sparse log spans a day at most.
            if len(events) == _BATCH or (events and event.event_time_ms - events[0].event_time_ms > DAY_MS):
                yield events
                events = []
            events.append(event)
        yield events

    def _take(self, events: Sequence[Event], hashes: NDArray[np.uint64]) -> None:
        """Fold a batch and score those of its events that are in time, on time and no duplicates."""
        folded = self._features.fold(events)
        columns, workers = folded.columns, folded.workers
        repeated = workers.duplicate_of >= 0
        self._counts["late"] += int(workers.late.sum())
        self._counts["repeated"] += int(repeated.sum())
        is_scored = (columns.time_ms >= self._scored_from_ms) & (columns.time_ms < self._end_ms) & ~workers.late & ~repeated
        scored = np.flatnonzero(is_scored)
        first_row = len(self._spool)
        if len(scored):
            self._score([events[place] for place in scored.tolist()], _requests(folded, scored, hashes))
        if self._sessions is not None:
            rows = np.full(len(events), -1, np.int64)
            rows[scored] = first_row + np.arange(len(scored))
            rows[columns.time_ms < self._begin_ms] = -1
            for place in np.flatnonzero(~repeated).tolist():  # a duplicate is no second step of its session
                self._add_to_session(events[place], int(rows[place]))

    def _score(self, events: Sequence[Event], requests: Mapping[str, ScoringRequest]) -> None:
        """Let every contender score the events by the features of its catalogue."""
        time_ms = np.array([event.event_time_ms for event in events], np.int64)
        evaluated = np.flatnonzero(time_ms >= self._begin_ms)
        self._counts["judged"] += len(evaluated)
        first = len(self._spool)
        for name, contender in self._contenders.items():
            predictions = contender.predict(requests[self._reads[name]], self._tasks)
            self._columns.add(**{f"score {name}": predictions.fraud})
            self._add_classes(name, predictions)
            if name in self._lists and predictions.items is not None:
                self._lists[name].add((first + evaluated).tolist(), predictions.items[evaluated], time_ms[evaluated])
        if self._lists:
            same = self._items.busiest(LIST_LENGTH)
            self._busiest.add_numbered((first + evaluated).tolist(), np.tile(same, (len(evaluated), 1)), time_ms[evaluated])
        dense = {name: of.inputs["dense"] for name, of in requests.items()}
        self._columns.add(
            time_ms=time_ms,
            user=np.array([self._users.setdefault(event.user, len(self._users)) for event in events], np.int64),
            kind=requests[WORKERS].kind,
            amount=np.array([event.amount if isinstance(event, Order) else 0.0 for event in events]),
            event=requests[WORKERS].event,
            **{f"segment {name}": part.codes(events, dense[WORKERS]) for name, part in self._segments.items()},
        )
        self._spool.add([event.event_id for event in events], [event.user for event in events], dense)

    def _add_classes(self, name: str, predictions: Predictions) -> None:
        for task, classes in (("intent", predictions.intent), ("next_action", predictions.next_action)):
            if classes is not None:
                self._columns.add(**{f"{task} {name}": classes})

    def _add_to_session(self, event: Event, row: int) -> None:
        assert self._sessions is not None
        for labelled, label in self._sessions.add(event, row):
            self._session_labels.append((labelled, label))
            for metrics in (*self._lists.values(), self._busiest):
                metrics.resolve(labelled, label.next_item)


def _requests(folded: FoldedFeatures, scored: NDArray[np.intp], hashes: NDArray[np.uint64]) -> dict[str, ScoringRequest]:
    """Return the requests for K `scored` events by the name of the catalogue."""
    kind, event = folded.columns.kind[scored], hashes[scored]
    return {
        name: ScoringRequest({spec.name: getattr(features, spec.name)[scored] for spec in INPUTS}, kind, event)
        for name, features in folded.by_catalogue.items()
    }


def days_before(config: BacktestConfig) -> int:
    """Return how many days before the evaluated range scoring begins: for adaptive thresholds and for known frauds."""
    protocol = config.judge
    mature = math.ceil(protocol.maturity_days or 0.0)  # days until no label means honest, which a precision needs
    adapting = [
        c.lookback_days + (mature if c.adapt == "precision" else 0)
        for c in config.candidates.values()
        if c.adapt or (c.threshold is None and c.kind not in ("model", "rules"))
    ]
    # Users are blocked on the lookback days too.
    return max([0, *adapting]) + (protocol.known_days if protocol.leave_out_known else 0)


def _report(log: ReplayLog, record: LogRecord, reason: str) -> None:
    file, place = log.where(record)
    log.problems.add(file, place, reason)
