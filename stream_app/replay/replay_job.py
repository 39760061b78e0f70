"""Build a replay from its options (log, state, outputs) and run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stream_app.config import Settings
from stream_app.errors import ConfigError
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_options import LogOptions, open_source
from stream_app.logs.log_source import LogSource, ReplayLog, chunks_of, expand, open_log
from stream_app.logs.recording import RecordedRun
from stream_app.replay.answer_files import FEATURES, write_start_offsets
from stream_app.replay.canonical import CanonicalReplay, ReplayBatch
from stream_app.replay.checkpoints.checkpoint import (
    CheckpointFolder,
    ReplayCheckpoint,
    checkpoints_in,
    manifest_identity,
    snapshot_identity,
)
from stream_app.replay.features_file import FeaturesFolder
from stream_app.replay.journal.journal_replay import JournalReplay
from stream_app.replay.parallel.split_replay import SplitReplay
from stream_app.replay.replay_run import Outputs, ReplaySummary, restore_checkpoint, run_replay
from stream_app.replay.sinks import AnswerFiles, AnswerTables, AnswerTopics, ReplaySink
from stream_app.replay.table_replay import replay_features
from stream_app.wiring import build_engine, build_store, shared_kinds


@dataclass(frozen=True, kw_only=True)
class ReplayOptions(LogOptions):
    """Input and outputs of a replay.

    Attributes:
        out: Folder for the answers; checkpoints are kept in it.
        answers_format: Format of the files in `out`.
        to_topics: Prefix of topics for the answers.
        features_out: Folder for the features.
        batch: Records of a batch.
        processes: Number of processes.
        spark: Spark master that runs the replay (`local[4]`, `spark://host:7077`); None: without Spark.
        prefix: Redis prefix of the state; None: state in memory.
        snapshot: File with the initial state.
        resume: Whether to go on from a checkpoint in `out`.
        checkpoint_s: Seconds between checkpoints.
    """

    out: Path | None = None
    answers_format: Literal["jsonl", "parquet"] = "jsonl"
    to_topics: str | None = None
    features_out: Path | None = None
    batch: int = 4_096
    processes: int = 1
    spark: str | None = None
    prefix: str | None = None
    snapshot: Path | None = None
    resume: bool = True
    checkpoint_s: float = 30.0

    def problems(self) -> list[str]:
        """Return the conflicts between options."""
        conflicts = super().problems()
        if not (self.out or self.to_topics or self.features_out):
            conflicts.append("say where results go: --out FOLDER, --to-topics PREFIX or --features-out FOLDER")
        if self.spark is not None and (self.from_topics or self.processes > 1 or self.window_ms is not None):
            conflicts.append("--engine spark reads files, sorts them all, and has processes of its own")
        if self.prefix is not None and (self.processes > 1 or self.spark is not None):
            conflicts.append("--store redis goes with one process of this machine")
        if self.spark is not None and self.snapshot is not None:
            conflicts.append("--from-snapshot goes with processes of this machine")
        tables = self.out / FEATURES if self.out and self.answers_format == "parquet" else None
        if tables and self.features_out and tables.resolve() == self.features_out.resolve():
            conflicts.append(f"--features-out {self.features_out} is where --answers-format parquet writes the topic features")
        if self.prefix is not None and self.snapshot is not None:
            conflicts.append("--from-snapshot keeps the state in memory: leave out --store")
        return conflicts


@dataclass(frozen=True)
class Callbacks:
    """Progress callback and stop flag."""

    progress: Callable[[int, str], None] = lambda _events, _note: None
    stop: Callable[[], bool] = lambda: False


def replay_log(settings: Settings, options: ReplayOptions, problems: LogIssues, callbacks: Callbacks) -> dict[str, Any]:
    """Replay a log in canonical order; return the summary that the command prints.

    Raises:
        ConfigError: The options contradict one another, a file is not there, or the checkpoint is of another replay.
        InputFileError: The log has an issue, and `problems` is strict.
    """
    conflicts = options.problems()
    if conflicts:
        raise ConfigError("; ".join(conflicts))
    _refuse_own_input(options)
    source = open_source(settings, options, problems, lambda line: callbacks.progress(0, line))
    with ExitStack() as stack:
        table = _table_alone(settings, options, source)
        if table is not None:
            outputs = _outputs(settings, options, callbacks, None, None, stack)
            # Twice the batch size: columns need less than half the memory of records, and larger batches are faster.
            line = replay_features(settings, table, source, outputs, 2 * options.batch).line(source)
            return {**line, "alerts": None, "answers": None}  # a replay of features alone makes no answers
        summary = ReplaySummary()
        replay = checkpoints = checkpoint = None
        if options.spark is None:
            replay = _replay(settings, options)
            stack.callback(replay.close)
            checkpoints = _checkpoints(settings, options, source) if options.out is not None else None
            checkpoint = restore_checkpoint(checkpoints, replay, summary, problems, resume=options.resume)
            if options.snapshot is not None and checkpoint is None:
                replay.load(options.snapshot)
        outputs = _outputs(settings, options, callbacks, checkpoint, checkpoints, stack)
        if options.out is not None:
            write_start_offsets(options.out, {})
        return run_replay(_batches(settings, options, source, replay), source, outputs, summary, replay).line(source)


def replay_recording(
    settings: Settings, folder: Path, models: Sequence[Path], options: ReplayOptions, problems: LogIssues, callbacks: Callbacks
) -> dict[str, Any]:
    """Replay a recorded live run in the order of its journal; return the summary that the command prints.

    `settings` are those of the workers, `folder` is one of `millrace record`, `models` are folders of the models that answered
    (none: the settings'). Options of logs are ignored.

    Raises:
        InputFileError: The recording is not whole.
        ConfigError: A model is missing, or the results go nowhere.
    """
    if not (options.out or options.to_topics or options.features_out):
        raise ConfigError("say where results go: --out FOLDER, --to-topics PREFIX or --features-out FOLDER")
    log, run, summary = open_log([folder / "log"], problems=problems), RecordedRun(folder), ReplaySummary()
    with ExitStack() as stack:
        replay = stack.enter_context(JournalReplay(settings, run, models, options.snapshot))
        log.total = replay.total
        checkpoints = None
        if options.out is not None:
            identity = (options.to_topics, options.features_out, snapshot_identity(options.snapshot), options.answers_format)
            shape = (settings.kafka.partitions, settings.redis.max_replicas, settings.redis.answers_kept_ms)
            folders = [manifest_identity(model) for model in models]
            checkpoints = checkpoints_in(options.out, settings, *run.identity(), *folders, *map(str, (*identity, *shape)))
        checkpoint = restore_checkpoint(checkpoints, replay, summary, problems, resume=options.resume)
        outputs = _outputs(settings, options, callbacks, checkpoint, checkpoints, stack)
        if options.out is not None:
            write_start_offsets(options.out, replay.start_offsets)
        line = run_replay(replay.batches(), log, outputs, summary, replay).line(log)
    return line if options.snapshot is None else {**line, "left_out": replay.left_out}


def _refuse_own_input(options: ReplayOptions) -> None:
    """Refuse a features folder that holds files of the log: a replay removes the parts of an earlier one there."""
    if options.features_out is None:
        return
    folder = options.features_out.resolve()
    for path in expand(options.paths):
        if path.resolve().parent == folder:
            raise ConfigError(f"--features-out {options.features_out} holds {path.name} of the log: name another folder")


def _checkpoints(settings: Settings, options: ReplayOptions, source: LogSource) -> CheckpointFolder:
    assert options.out is not None
    snapshot = snapshot_identity(options.snapshot)
    identity = (options.to_topics, options.features_out, snapshot, options.prefix, options.answers_format)
    return checkpoints_in(options.out, settings, *source.identity(), *map(str, identity))


def _table_alone(settings: Settings, options: ReplayOptions, source: LogSource) -> Path | None:
    """Return the event table if the replay needs only its features: no model, answers or other state; else None."""
    needs_answers = options.out or options.to_topics or settings.model.engine != "none"
    needs_state = options.prefix or options.spark or options.snapshot or options.processes > 1
    return source.table if isinstance(source, ReplayLog) and not needs_answers and not needs_state else None


def _replay(settings: Settings, options: ReplayOptions) -> CanonicalReplay | SplitReplay:
    if options.processes > 1:
        return SplitReplay(settings, options.processes)
    engine, store = build_engine(settings), None
    if options.prefix is not None:
        if options.prefix == settings.redis.prefix:
            raise ConfigError(f"--prefix {options.prefix} is that of the live state (redis.prefix): take another one")
        own_settings = replace(
            settings, kafka=replace(settings.kafka, partitions=1), redis=settings.redis.with_prefix(options.prefix)
        )
        store = build_store(own_settings, shared_kinds(engine))
    return CanonicalReplay(settings, engine, store=store)


def _batches(
    settings: Settings, options: ReplayOptions, source: LogSource, replay: CanonicalReplay | SplitReplay | None
) -> Iterator[ReplayBatch]:
    if replay is None:
        from stream_app.replay.spark.spark_replay import replay_spark

        assert options.spark is not None
        return replay_spark(settings, options.paths, options.mapping, source.problems, options.batch, options.spark)
    if isinstance(replay, SplitReplay):
        return replay.batches(source, options.batch)
    return replay.batches(chunks_of(source, options.batch, replay.position))


def _outputs(
    settings: Settings, options: ReplayOptions, callbacks: Callbacks, checkpoint: ReplayCheckpoint | None,
    checkpoints: CheckpointFolder | None,
    stack: ExitStack,
) -> Outputs:  # fmt: skip
    at: Mapping[str, dict[str, int]] = checkpoint.sinks if checkpoint is not None else {}
    sinks: dict[str, ReplaySink] = {}
    if options.out is not None:
        files = AnswerTables if options.answers_format == "parquet" else AnswerFiles
        sinks["files"] = files(options.out, at.get("files"))
    if options.to_topics is not None:
        sinks["topics"] = AnswerTopics(settings.kafka.bootstrap, options.to_topics)
    for sink in sinks.values():
        stack.callback(sink.close)
    features = None
    if options.features_out is not None:
        features = FeaturesFolder(options.features_out, build_engine(settings), at.get("features"))
    return Outputs(
        sinks=sinks,
        features=features,
        checkpoints=checkpoints,
        checkpoint_s=options.checkpoint_s,
        stop=callbacks.stop,
        progress=callbacks.progress,
    )
