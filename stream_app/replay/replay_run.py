"""The replay loop: read batches, write answers and features, count, and save checkpoints.

The caller chooses the source of the batches (one process, several, Spark) and the sinks of the answers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from stream_app.errors import ConfigError
from stream_app.features.fold_types import FoldResult
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_records import LogRecord
from stream_app.logs.log_source import LogSource
from stream_app.replay.canonical import ReplayBatch
from stream_app.replay.checkpoints.checkpoint import CheckpointFolder, ReplayCheckpoint, Resumable
from stream_app.replay.features_file import FeaturesFolder
from stream_app.replay.sinks import ReplaySink

_IN_MINUTES_S: Final = 120


@dataclass
class ReplaySummary:
    """Counts of a replay over all its runs; `new_events` and `seconds` are of the current run."""

    records: int = 0
    events: int = 0
    late: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    labels: int = 0
    alerts: int = 0
    first_event_ms: int = -1
    last_event_ms: int = -1
    answers: Counter[str] = field(default_factory=Counter)
    model_versions: dict[str, int] = field(default_factory=dict)
    resumed_at: int = 0
    new_events: int = 0
    seconds: float = 0.0
    complete: bool = False
    resumable: bool = False

    def counts(self) -> dict[str, Any]:
        """Return the counts for a checkpoint."""
        names = ("records", "events", "late", "duplicates", "dead_letters", "labels", "alerts", "first_event_ms", "last_event_ms")
        counts = {name: getattr(self, name) for name in names}
        return {**counts, "answers": dict(self.answers), "model_versions": self.model_versions}

    def restore(self, counts: Mapping[str, Any]) -> None:
        """Restore the counts of a checkpoint."""
        for name, value in counts.items():
            setattr(self, name, Counter(value) if name == "answers" else value)
        self.resumed_at = self.records

    def take(self, batch: ReplayBatch) -> None:
        """Count a batch."""
        decoded, scored = batch.decoded, batch.scored
        self.records += batch.end - batch.first
        self.labels += len(batch.labels)
        self.dead_letters += len(decoded.dead)
        for topic, topic_messages in batch.messages.items():
            self.answers[topic] += len(topic_messages.values)
        if scored is None:
            return
        self.alerts = self.answers["fraud-alerts"]
        times = decoded.events[0].event_time_ms, decoded.events[-1].event_time_ms
        self.take_features(*times, scored.folded, Counter(scored.ranked.versions))

    def take_features(self, first_ms: int, last_ms: int, folded: FoldResult, versions: Mapping[str, int]) -> None:
        """Count the events of a batch, from the times of its first and last event, its fold, and the events of each model."""
        self.events += len(folded.late)
        self.new_events += len(folded.late)
        self.late += int(folded.late.sum())
        self.duplicates += int((folded.duplicate_of >= 0).sum())
        if self.first_event_ms < 0:
            self.first_event_ms = first_ms
        self.last_event_ms = max(self.last_event_ms, last_ms)
        for version, rows in versions.items():
            self.model_versions[version] = self.model_versions.get(version, 0) + rows

    def line(self, source: LogSource) -> dict[str, Any]:
        """Return the command's last line of output."""
        return {
            **self.counts(),
            "answers": dict(sorted(self.answers.items())),
            "problems": source.problems.count,
            "problems_by_reason": source.problems.summary(),
            "resumed_at": self.resumed_at,
            "seconds": round(self.seconds, 3),
            "events_per_s": round(self.new_events / self.seconds, 1) if self.seconds else 0.0,
            "complete": self.complete,
            "resumable": self.resumable and not self.complete,
        }


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Sinks, features, checkpoints and callbacks of a replay. `checkpoints` needs a replay that can resume."""

    sinks: Mapping[str, ReplaySink]
    features: FeaturesFolder | None = None
    checkpoints: CheckpointFolder | None = None
    checkpoint_s: float = 30.0
    stop: Callable[[], bool] = lambda: False
    progress: Callable[[int, str], None] = lambda _events, _note: None


def run_replay(
    batches: Iterable[ReplayBatch], source: LogSource, outputs: Outputs, summary: ReplaySummary, replay: Resumable | None
) -> ReplaySummary:
    """Replay batches after the records that the summary has counted, to the end or until `outputs.stop` returns True.

    The source collects invalid records as issues; `replay` provides the state for checkpoints.
    """
    summary.resumable = outputs.checkpoints is not None
    begin_s = checkpoint_s = time.monotonic()
    stopped = False
    for batch in batches:
        _write_batch(batch, source, outputs, summary)
        outputs.progress(summary.records, progress_note(summary, source, begin_s))
        stopped = stopped or outputs.stop()
        if outputs.checkpoints is not None:
            assert replay is not None, "a checkpoint needs the state of a replay"
            if not replay.at_rest:
                continue  # checkpoints and stops happen at the end of a segment
            if stopped or replay.each_batch or time.monotonic() >= checkpoint_s + outputs.checkpoint_s:
                _checkpoint(outputs, outputs.checkpoints, summary, source.problems, replay)
                checkpoint_s = time.monotonic()
        if stopped:
            break
    else:
        _finish(outputs)
        summary.complete = True
    summary.seconds = time.monotonic() - begin_s
    return summary


def restore_checkpoint(
    checkpoints: CheckpointFolder | None, replay: Resumable, summary: ReplaySummary, problems: LogIssues, *, resume: bool
) -> ReplayCheckpoint | None:
    """Restore a new replay, summary and problems from the last checkpoint; without `resume`, remove it.

    Returns:
        The checkpoint; None: the replay starts anew.

    Raises:
        ConfigError: The checkpoint is of another replay, or no checkpoint matches the state in the replay's store.
        InputFileError: The checkpoint has problems, and `problems` is strict.
    """
    store_position = replay.position if replay.each_batch else 0  # without a store a new replay has no state
    checkpoint = None
    if checkpoints is not None and resume:
        checkpoint = checkpoints.load(store_position if replay.each_batch else None)
    if store_position and checkpoint is None:
        # Resuming here would skip records whose answers the new output files lack.
        raise ConfigError(
            f"the --prefix of this replay holds the state of another one ({store_position:,} records), which no checkpoint in "
            "--out goes on from: take an empty one"
        )
    if checkpoints is None:
        return None
    if checkpoint is None:
        checkpoints.remove()
        return None
    summary.restore(checkpoint.counts)
    problems.restore(checkpoint.problems)
    checkpoints.restore(checkpoint, replay)
    return checkpoint


def _write_batch(batch: ReplayBatch, source: LogSource, outputs: Outputs, summary: ReplaySummary) -> None:
    summary.take(batch)
    for dead in batch.decoded.dead:
        assert isinstance(dead.record, LogRecord)
        source.problems.add(*source.where(dead.record), f"no event: {dead.reason}", of_record=True)
    for sink in outputs.sinks.values():
        sink.write(batch.messages)
    if outputs.features is not None:
        outputs.features.write(batch.decoded, batch.scored)


def _finish(outputs: Outputs) -> None:
    for sink in outputs.sinks.values():
        sink.finish()
    if outputs.features is not None:
        outputs.features.finish()
    if outputs.checkpoints is not None:
        outputs.checkpoints.remove()
    for sink in outputs.sinks.values():
        sink.tidy()  # after the checkpoint, which needs the files that tidy removes
    if outputs.features is not None:
        outputs.features.tidy()


def _checkpoint(
    outputs: Outputs, checkpoints: CheckpointFolder, summary: ReplaySummary, problems: LogIssues, replay: Resumable
) -> None:
    positions = {name: sink.flush() for name, sink in outputs.sinks.items()}
    if outputs.features is not None:
        positions["features"] = outputs.features.flush()
    checkpoints.save(replay, summary.records, positions, summary.counts(), problems)


def progress_note(summary: ReplaySummary, source: LogSource, begin_s: float) -> str:
    """Return the current event time and the remaining time as text."""
    at = datetime.fromtimestamp(summary.last_event_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M")
    done = summary.records - summary.resumed_at
    if source.total is None or not done:
        return f"at {at}"
    left_s = (source.total - summary.records - summary.labels) * (time.monotonic() - begin_s) / done
    return f"at {at}, {left_s / 60:.0f} min left" if left_s > _IN_MINUTES_S else f"at {at}, {max(0.0, left_s):.0f} s left"
