"""Puts a canonical replay together from what was asked for: log, state, outputs; and runs it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from stream_app.config import ModelSettings, Settings
from stream_app.errors import ConfigError
from stream_app.imports.mapping import Mapping as LogMapping
from stream_app.replay.canonical import CanonicalReplay, ReplayBatch
from stream_app.replay.checkpoint import Checkpoint, CheckpointFolder, replay_identity
from stream_app.replay.features_file import FeaturesFolder
from stream_app.replay.journal import JournalReplay
from stream_app.replay.problems import Problems
from stream_app.replay.processes import replay_split
from stream_app.replay.recorded import RecordedRun
from stream_app.replay.run import Outputs, ReplaySummary, run_replay
from stream_app.replay.sinks import AnswerFiles, AnswerTopics, ReplaySink
from stream_app.replay.sources import LogSource, chunks_of, expand, open_log
from stream_app.replay.topics import Range, TopicLog, TopicReader
from stream_app.wiring import build_engine, build_store, shared_kinds

__all__ = ["ReplayOptions", "Told", "replay_log", "replay_recording"]

_CHECKPOINTS: Final = ".replay"
_OFFSETS: Final = re.compile(r"(?P<topic>[a-z]+)-(?P<partition>\d+)=(?P<start>\d+):(?P<end>\d+)")


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """What to replay, and where to.

    Attributes:
        paths: Files, folders, patterns; none with `from_topics`.
        mapping: How rows become events; None: JSON lines.
        from_topics: Whether the log is the source topics of the settings' broker.
        since_ms, until_ms: Of topics: the records' timestamps.
        offsets: Of topics: `clicks-3=100:2000`; partitions that are not named are left out then.
        out: Folder for the answers; checkpoints are kept in it.
        to_topics: Prefix of topics for the answers.
        features_out: Folder for the features.
        window_ms: How far out of order a record may come; None: any.
        batch: Records of a batch.
        processes: How many.
        spark: Master of the Apache Spark that runs it (`local[4]`, `spark://host:7077`); None: this machine alone.
        prefix: Where in Redis the state is kept; None: in memory.
        snapshot: State to begin with.
        resume: Whether to go on from a checkpoint in `out`.
        checkpoint_s: Seconds between checkpoints.
    """

    paths: tuple[str, ...] = ()
    mapping: LogMapping | None = None
    from_topics: bool = False
    since_ms: int | None = None
    until_ms: int | None = None
    offsets: tuple[str, ...] = ()
    out: Path | None = None
    to_topics: str | None = None
    features_out: Path | None = None
    window_ms: int | None = None
    batch: int = 4_096
    processes: int = 1
    spark: str | None = None
    prefix: str | None = None
    snapshot: Path | None = None
    resume: bool = True
    checkpoint_s: float = 30.0

    @property
    def single(self) -> bool:
        """Whether one process of this machine does it all."""
        return self.processes == 1 and self.spark is None

    def problems(self) -> list[str]:
        """Say what does not go together."""
        found = []
        if bool(self.paths) == self.from_topics:
            found.append("name log files (or folders, or patterns), or give --from-topics: one of the two")
        if not (self.out or self.to_topics or self.features_out):
            found.append("say where results go: --out FOLDER, --to-topics PREFIX or --features-out FOLDER")
        if self.mapping is not None and self.from_topics:
            found.append("--mapping is for files; topics hold events already")
        if self.spark is not None and (self.from_topics or self.processes > 1 or self.window_ms is not None):
            found.append("--engine spark reads files, sorts them all, and has processes of its own")
        if not self.single and (self.prefix is not None or self.snapshot is not None):
            found.append("--store redis and --from-snapshot go with one process of this machine")
        if self.prefix is not None and self.snapshot is not None:
            found.append("--from-snapshot keeps the state in memory: leave out --store")
        return found


@dataclass(frozen=True)
class Told:
    """Who is told how far it is, and who says when to stop."""

    progress: Callable[[int, str], None] = lambda _events, _note: None
    stop: Callable[[], bool] = lambda: False


def replay_log(settings: Settings, options: ReplayOptions, problems: Problems, told: Told) -> dict[str, Any]:
    """Replay a log in canonical order; return what the command prints last.

    Raises:
        ConfigError: The options do not go together, a file is not there, or the checkpoint is of another replay.
        InputFileError: Something is wrong with the log, and the problems are strict.
    """
    wrong = options.problems()
    if wrong:
        raise ConfigError("; ".join(wrong))
    _refuse_own_input(options)
    source = _source(settings, options, problems, told)
    with ExitStack() as stack:
        # A store of its own has its own position; of several processes none has the whole state.
        keeps = options.single and options.prefix is None and options.out is not None
        checkpoints = _checkpoints(settings, options, source) if keeps else None
        found = checkpoints.load() if checkpoints is not None and options.resume else None
        if checkpoints is not None and found is None:
            checkpoints.remove()
        summary = ReplaySummary()
        if found is not None:
            summary.restore(found.counts)
            problems.restore(found.problems)
        replay = stack.enter_context(_replay(settings, options)) if options.single else None
        if replay is not None and checkpoints is not None and found is not None:
            checkpoints.restore(found, replay)
        if options.prefix is not None and replay is not None and replay.position:
            # Going on would leave out what is done, of answers that begin anew.
            raise ConfigError(
                f"--prefix {options.prefix} holds the state of another replay ({replay.position:,} records): take an empty one"
            )
        outputs = _outputs(settings, options, told, found, checkpoints, stack)
        return run_replay(_batches(settings, options, source, replay), source, outputs, summary, replay).line(source)


def replay_recording(
    settings: Settings, folder: Path, models: Sequence[Path], options: ReplayOptions, problems: Problems, told: Told
) -> dict[str, Any]:
    """Replay a recorded live run in the order of its journal; return what the command prints last.

    Args:
        settings: What the workers were started with.
        folder: Of `recorded.record_topics`.
        models: Folders of the models that answered; none: the settings'.
        options: Where to; what is about logs is not used.
        problems: Takes note of what is no event.
        told: Is told how far it is.

    Raises:
        InputFileError: The recording is not whole.
        ConfigError: A model is missing, or the results go nowhere.
    """
    if not (options.out or options.to_topics or options.features_out):
        raise ConfigError("say where results go: --out FOLDER, --to-topics PREFIX or --features-out FOLDER")
    log = open_log([folder / "log"], problems=problems)
    with ExitStack() as stack:
        replay = stack.enter_context(JournalReplay(settings, RecordedRun(folder), models))
        log.total = replay.total
        outputs = _outputs(settings, options, told, None, None, stack)
        return run_replay(replay.batches(), log, outputs, ReplaySummary(), None).line(log)


def _refuse_own_input(options: ReplayOptions) -> None:
    """Refuse to write features among the files of the log: parts of an earlier replay are removed there."""
    if options.features_out is None:
        return
    folder = options.features_out.resolve()
    for path in expand(options.paths):
        if path.resolve().parent == folder:
            raise ConfigError(f"--features-out {options.features_out} holds {path.name} of the log: name another folder")


def _source(settings: Settings, options: ReplayOptions, problems: Problems, told: Told) -> LogSource:
    def progress(line: str) -> None:
        told.progress(0, line)

    if not options.from_topics:
        return open_log(options.paths, options.mapping, problems=problems, window_ms=options.window_ms, progress=progress)
    kafka = settings.kafka
    with TopicReader(kafka.bootstrap, kafka.topic_prefix) as reader:
        ranges = reader.ranges(TopicLog.topics(), options.since_ms, options.until_ms)
        if options.offsets:
            wanted = _wanted(options.offsets)
            _refuse_missing(wanted, reader.ranges(TopicLog.topics()))
            ranges = {place: (max(start, ranges[place][0]), min(end, ranges[place][1])) for place, (start, end) in wanted.items()}
    return TopicLog(kafka.bootstrap, kafka.topic_prefix, ranges, problems, progress)


def _wanted(offsets: tuple[str, ...]) -> dict[tuple[str, int], Range]:
    found: dict[tuple[str, int], Range] = {}
    for text in offsets:
        match = _OFFSETS.fullmatch(text)
        if match is None or match["topic"] not in TopicLog.topics():
            raise ConfigError(f"--offsets {text}: write TOPIC-PARTITION=FROM:TO, as clicks-3=100:2000 (2000 is not read)")
        found[match["topic"], int(match["partition"])] = (int(match["start"]), int(match["end"]))
    return found


def _refuse_missing(wanted: Mapping[tuple[str, int], Range], there: Mapping[tuple[str, int], Range]) -> None:
    """Refuse offsets that the broker does not hold; an end beyond the newest record means: all there is."""
    for (topic, partition), (start, end) in wanted.items():
        asked = f"--offsets {topic}-{partition}={start}:{end}"
        if (topic, partition) not in there:
            raise ConfigError(f"{asked}: {topic} has no partition {partition} at the broker")
        low, high = there[topic, partition]
        if start < end and not low <= start < high:
            raise ConfigError(f"{asked}: the broker holds the offsets {low}:{high} of that partition; begin with one of them")


def _checkpoints(settings: Settings, options: ReplayOptions, source: LogSource) -> CheckpointFolder:
    assert options.out is not None
    identity = replay_identity(
        *source.identity(), settings.model.path, *_model_identity(settings.model), str(settings.model.fraud_threshold),
        repr(settings.features), settings.privacy.id_key.reveal(), str(options.to_topics), str(options.features_out),
        str(options.snapshot),
    )  # fmt: skip
    return CheckpointFolder(options.out / _CHECKPOINTS, identity)


def _model_identity(model: ModelSettings) -> list[str]:
    """Tell which model lies in the folder now: the manifest has the version, and the checksums of the other files."""
    if model.engine == "none":
        return [model.engine]
    try:
        manifest = (Path(model.path) / "manifest.json").read_bytes()
    except OSError:
        manifest = b""  # loading it says what is wrong
    return [model.engine, model.precision, hashlib.sha256(manifest).hexdigest()]


def _replay(settings: Settings, options: ReplayOptions) -> CanonicalReplay:
    engine, store = build_engine(settings), None
    if options.prefix is not None:
        if options.prefix == settings.redis.prefix:
            raise ConfigError(f"--prefix {options.prefix} is that of the live state (redis.prefix): take another one")
        alone = replace(
            settings, kafka=replace(settings.kafka, partitions=1), redis=replace(settings.redis, prefix=options.prefix)
        )
        store = build_store(alone, shared_kinds(engine))
    replay = CanonicalReplay(settings, engine, store=store)
    if options.snapshot is not None:
        replay.load(options.snapshot)
    return replay


def _batches(
    settings: Settings, options: ReplayOptions, source: LogSource, replay: CanonicalReplay | None
) -> Iterator[ReplayBatch]:
    if options.spark is not None:
        from stream_app.replay.spark import SparkOptions, replay_spark

        spark = SparkOptions(master=options.spark)
        return replay_spark(settings, options.paths, options.mapping, source.problems, options.batch, spark)
    if replay is None:
        return replay_split(settings, source, options.batch, options.processes)
    return replay.batches(chunks_of(source, options.batch, replay.position))


def _outputs(
    settings: Settings, options: ReplayOptions, told: Told, found: Checkpoint | None, checkpoints: CheckpointFolder | None,
    stack: ExitStack,
) -> Outputs:  # fmt: skip
    at: Mapping[str, dict[str, int]] = found.sinks if found is not None else {}
    sinks: dict[str, ReplaySink] = {}
    if options.out is not None:
        sinks["files"] = AnswerFiles(options.out, at.get("files"))
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
        stop=told.stop,
        progress=told.progress,
    )
