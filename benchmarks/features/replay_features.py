"""How long it takes to come to the features of a log: by the columns of a table, and by decoded events."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.features.feature_logs import TOPIC_OF, FeatureLog, batches
from stream_app.codec.decode import ANY_SKEW_MS
from stream_app.features.catalog import CATALOGUE
from stream_app.features.declarations import Catalogue
from stream_app.features.engine import FeatureEngine
from stream_app.logs.event_table import EventTable
from stream_app.logs.event_table_writer import EventTableWriter
from stream_app.logs.log_records import LogRecord
from stream_app.logs.log_source import open_log
from stream_app.privacy import Pseudonymizer
from stream_app.replay.memory_state import MemoryState
from stream_app.replay.table_replay import TableReplay

BATCH = 4_096
IDENTITY = Pseudonymizer(b"a key of the benchmarks alone")
LATENESS_MS = 86_400_000


def measured_features(logs: list[FeatureLog], events: int, catalogue: Catalogue = CATALOGUE) -> dict[str, Any]:
    """Take tables to their features, state from nothing: on all cores by the clock, then bound to one core by its CPU time.

    A first pass is not timed: what is compiled or loaded at its first call, and memory that the machine gives for the first time
    (8 us for each 4 kB in a virtual machine; a long replay pays it once).
    """
    engine = FeatureEngine(catalogue, allowed_lateness_ms=LATENESS_MS)
    engine.warm()
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder:
        tables = {log.name: _table(log, events // len(logs), Path(folder) / log.name) for log in logs}
        _timed(tables, engine, time.perf_counter)
        both = _timed(tables, engine, time.perf_counter)
        try:
            os.sched_setaffinity(0, {max(cores)})
            one = _timed(tables, engine, time.process_time)
        finally:
            os.sched_setaffinity(0, cores)
    return {
        "events_per_s": _rate(one.values()),
        "wall_events_per_s": _rate(both.values()),
        "by_log": {name: _rate([timed]) for name, timed in one.items()},
        "events": sum(done for done, _ in one.values()),
    }


def _rate(timed: Collection[tuple[int, float]]) -> float:
    counts, seconds = zip(*timed, strict=True)
    return float(round(sum(counts) / sum(seconds), 1))


def _timed(tables: dict[str, Path], engine: FeatureEngine, now: Callable[[], float]) -> dict[str, tuple[int, float]]:
    """Take each table to its features; events, and seconds."""
    timed = {}
    for name, path in tables.items():
        with EventTable(path) as table:
            replay = TableReplay(path, table, engine, IDENTITY, open_log([path]), ANY_SKEW_MS)
            start = now()
            done = sum(len(batch.events) for batch in replay.batches(2 * BATCH))  # as `millrace replay` does
            timed[name] = done, now() - start
    return timed


def _table(log: FeatureLog, events: int, path: Path) -> Path:
    records = []
    for row, event in enumerate(islice(log.events(), events)):
        time_ms, topic = event.event_time_ms, TOPIC_OF[type(event)]
        records.append(LogRecord(time_ms, (0, row, 0), topic, 0, row, time_ms, event.user.encode(), msgspec.json.encode(event)))
    with EventTableWriter(path, [(log.name, "row")]) as writer:
        writer.write(sorted(records))
    return path


def measured_decoded(logs: list[FeatureLog], events: int) -> dict[str, Any]:
    """Take decoded events to their features, log after log; seconds of CPU, so that others on the machine hardly matter."""
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=LATENESS_MS)
    engine.warm()
    count, seconds = 0, {"columns": 0.0, "fold": 0.0}
    for log in logs:
        state, done = MemoryState(engine), 0
        for batch in batches(islice(log.events(), events // len(logs)), BATCH):
            start = time.process_time()
            columns = engine.columns(batch, [0] * len(batch), IDENTITY)
            middle = time.process_time()
            state.fold(columns, done + 1 + np.arange(len(batch), dtype=np.int64))
            seconds["columns"] += middle - start
            seconds["fold"] += time.process_time() - middle
            done += len(batch)
        count += done
    us = {piece: round(spent / count * 1e6, 3) for piece, spent in seconds.items()}
    return {"events_per_s": round(count / sum(seconds.values()), 1), "us": us, "events": count}
