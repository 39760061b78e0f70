"""Journal replay: a recorded live run in its own order, so that every feature and every answer comes out as it did, to the bit.

Every commit of the journal is two things: its read, which saw certain commits of all groups, and the commit itself. They are put
into one order in which each read sees just those commits (`journal_order`). What the groups of one batch did is independent, so
each is replayed by itself. Answers are decided at the time that the journal says, by the model that it names.

From a snapshot of live state the replay begins with each group's first commit behind it. A read that was under way when the
snapshot was taken may have seen a group before it. What such a commit writes depends on its own group alone, so the state is
right; what it answered is not, and is left out: the replay's answers begin with the next commit of the group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from stream_app.batch import DecodedBatch, OffsetSpan
from stream_app.clock import SettableClock
from stream_app.config import Settings
from stream_app.errors import ConfigError, InputFileError
from stream_app.events import JournalLine
from stream_app.inference.degrade import rules_only
from stream_app.inference.loading import RankerLoader
from stream_app.inference.ranker import ModelRanker, PriorRanker
from stream_app.inference.registry.swap import with_challenger
from stream_app.inference.registry.traffic_split import share_of_users
from stream_app.logs.log_records import LogRecord
from stream_app.logs.recording import RecordedRun
from stream_app.metrics import Metrics
from stream_app.pipeline import BatchCommit
from stream_app.ranked import Challenger, RankedBatch
from stream_app.replay.canonical import ReplayBatch
from stream_app.replay.checkpoints.state_file import GroupHeader, read_header
from stream_app.replay.journal.journal_order import Commit, is_settled, serial_order
from stream_app.replay.journal.journal_store import JournalStore
from stream_app.store.port import CommitStatus, Snapshot
from stream_app.wiring import build_engine, build_pipeline, shared_kinds

__all__ = ["JournalReplay"]


class JournalReplay:
    """Replays a recording. Use it as a context, or `close` it.

    Args:
        settings: What the workers were started with.
        run: The recording.
        models: Folders of the models that answered; a version that the journal names and that is not among them is an error.
        snapshot: Live state to begin with; None: the journal begins with the first commit.

    Attributes:
        position: Records whose commits were given out.
        total: Records of all commits that will be.
        begins: "topic-partition" -> the offset from which records are answered; empty without a snapshot.
        left_out: Records behind the snapshot whose answers cannot be known.

    Raises:
        InputFileError: The snapshot is damaged, or of fewer groups.
    """

    def __init__(self, settings: Settings, run: RecordedRun, models: Sequence[Path] = (), snapshot: Path | None = None) -> None:
        self._lines, self._run = run.journal(), run
        self.engine = build_engine(settings)
        groups = max(settings.kafka.partitions, 1 + max((group for group, _ in self._lines), default=0))
        self.store = JournalStore(groups, shared_kinds(self.engine), settings.redis.max_replicas, settings.redis.answers_kept_ms)
        self._start: dict[int, int] = {}  # group -> the commit that the state began with
        self._begun: dict[Commit, Snapshot] = {}  # what the reads under way saw
        self._committed: dict[int, int] = {}
        self.begins: dict[str, int] = {}
        self.position = self.left_out = 0
        if snapshot is not None:
            self._begin_with(snapshot, groups)
        self.clock = SettableClock()
        bare = replace(settings, model=replace(settings.model, engine="none"))
        built = build_pipeline(bare, self.engine, self.store, self.clock, Metrics(CollectorRegistry()))
        self.pipeline = replace(
            built, outputs=replace(built.outputs, records_features=settings.features.record or run.has_features())
        )
        self._rankers = _rankers(settings, self._lines, models, self.engine.catalogue_hash, self.engine.feature_names)
        self._streams: dict[tuple[str, int], _Stream] = {}
        self._loop = asyncio.new_event_loop()
        self._epochs = {group: self._loop.run_until_complete(self.store.claim(group, "replay")).epoch for group in range(groups)}
        self.total = sum(_records_of(line) for line in self._lines.values()) - self.left_out

    def __enter__(self) -> JournalReplay:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End the model's thread."""
        if isinstance(self.pipeline.model_thread, ThreadPoolExecutor):
            self.pipeline.model_thread.shutdown()
        self._loop.close()

    def _begin_with(self, snapshot: Path, groups: int) -> None:
        header = read_header(snapshot)
        if len(header.groups) != groups:
            raise InputFileError(
                f"{snapshot} has {len(header.groups)} partition groups, the recorded run {groups}: name a snapshot of that run, "
                "and the workers' kafka.partitions"
            )
        self.engine.learn_layouts(header.layouts)
        self.store.load_file(snapshot)
        self._start = {group: found.commit for group, found in header.groups.items()}
        self._committed = dict(self._start)
        self._lines = {(group, number): line for (group, number), line in self._lines.items() if number > self._start[group]}
        for group, found in header.groups.items():
            self._begin_group(group, found)

    def _begin_group(self, group: int, found: GroupHeader) -> None:
        """Find where the group's answers begin, and have those before said by the recording."""
        fronts, commit = dict(found.fronts), found.commit + 1
        oldest_ms = self._lines[group, commit].scored_time_ms if (group, commit) in self._lines else 0
        while (group, commit) in self._lines and not is_settled(self._lines[group, commit], self._start):
            line = self._lines[group, commit]
            fronts.update({topic: end for topic, (_, end) in line.ranges.items()})
            self.left_out += _records_of(line)
            commit += 1
        self.store.answer_from(self._run, group, (commit, fronts), oldest_ms)
        self.begins.update({f"{topic}-{group}": offset for topic, offset in fronts.items()})

    @property
    def at_rest(self) -> bool:
        """Always: reads under way are kept too."""
        return True

    @property
    def each_batch(self) -> bool:
        """Never: the state is in memory."""
        return False

    def save(self, folder: Path, name: str) -> list[str]:
        """Write the state and the reads under way into a file; see `checkpoint.Resumable`."""
        file = f"{name}.bin"
        self.store.save(folder / file, self.engine, self._begun)
        return [file]

    def restore(self, position: int, paths: Sequence[Path]) -> None:
        """Be where `save` was called."""
        [path] = paths
        self._begun = self.store.restore(path)
        self._committed = {group: found.commit for group, found in read_header(path).groups.items()}
        self._lines = {(group, number): line for (group, number), line in self._lines.items() if number > self._committed[group]}
        self.position = position

    def batches(self) -> Iterator[ReplayBatch]:
        """Yield what each commit did, in an order of the journal.

        Raises:
            InputFileError: The recording lacks a commit or a record, or has no order.
        """
        read = {commit: self._read(self._lines[commit], seen) for commit, seen in self._begun.items()}
        for kind, commit in serial_order(self._lines, self._committed, frozenset(read)):
            line = self._lines[commit]
            if kind == "read":
                read[commit] = self._read(line)
                assert self.store.saw is not None
                self._begun[commit] = self.store.saw
                continue
            prepared, scored = read.pop(commit)
            del self._begun[commit]
            batch = self._committed_batch(line, prepared, scored)
            if is_settled(line, self._start):
                yield batch

    def _read(self, line: JournalLine, again: Snapshot | None = None) -> tuple[DecodedBatch, BatchCommit]:
        prepared = self._prepared(line)
        return prepared, self._scored(line, prepared, again)

    def _prepared(self, line: JournalLine) -> DecodedBatch:
        spans, records = [], []
        for topic, (start, end) in line.ranges.items():
            spans.append(OffsetSpan(line.group, self._epochs[line.group], topic, start, end))
            key = (topic, line.group)
            if key not in self._streams:
                self._streams[key] = _Stream(self._run.records(topic, line.group))
            records += [(topic, record) for record in self._streams[key].take(start, end)]
        return self.pipeline.prepare(spans, records)

    def _scored(self, line: JournalLine, prepared: DecodedBatch, again: Snapshot | None) -> BatchCommit:
        if line.features_version != self.engine.catalogue_hash:
            raise ConfigError(
                f"commit {line.commit} of group {line.group} was made with the features {line.features_version}, this release "
                f"has {self.engine.catalogue_hash}: replay it with the release that was live"
            )
        times = [record.timestamp for record in prepared.records]
        self.clock.set_ms(line.scored_time_ms or max(times, default=0))  # lines of earlier releases do not say it
        self.store.at(line, self.clock.now_ms(), again)
        pipeline = replace(self.pipeline, ranker=_LineRanker(line, self._rankers))
        return self._loop.run_until_complete(pipeline.score(prepared))

    def _committed_batch(self, line: JournalLine, prepared: DecodedBatch, scored: BatchCommit) -> ReplayBatch:
        [result] = self._loop.run_until_complete(self.store.commit(scored.steps))
        if result.status is not CommitStatus.APPLIED or result.commit != line.commit:
            raise InputFileError(
                f"the journal's commit {line.commit} of group {line.group} does not follow on the one before "
                f"({result.status.value}: {result.detail}). Was the run recorded while records expired?"
            )
        first = self.position
        if is_settled(line, self._start):
            self.position += len(prepared.events) + len(prepared.dead)
        return ReplayBatch(first, self.position, prepared, scored.scored, scored.outboxes[line.group].topics, [])


def _records_of(line: JournalLine) -> int:
    return sum(end - start for start, end in line.ranges.values())


class _Stream:
    """One partition of a source topic, read once from its beginning."""

    def __init__(self, records: Iterator[LogRecord]) -> None:
        self._records = records
        self._next: LogRecord | None = next(records, None)

    def take(self, start: int, end: int) -> Iterator[LogRecord]:
        """Yield the records of the offsets [start, end); offsets without a record are the broker's own marks."""
        while self._next is not None and self._next.offset < end:
            if self._next.offset >= start:
                yield self._next
            self._next = next(self._records, None)


@dataclass(frozen=True)
class _LineRanker:
    """Ranks as the workers did: by the champion, the challengers and the rules of a degraded batch that the journal names."""

    line: JournalLine
    rankers: Mapping[str, ModelRanker | PriorRanker]

    @property
    def version(self) -> str:
        """The champion's."""
        return self.line.model_version

    def rank(self, inputs: Mapping[str, NDArray[Any]], users: Sequence[bytes]) -> RankedBatch:
        """See `stream_app.pipeline.Ranker`."""
        champion = self.rankers[self.line.model_version]
        if isinstance(champion, PriorRanker):
            return champion.rank(inputs, users)
        if self.line.degraded:
            return rules_only(len(users), champion.norms)
        ranked = champion.rank(inputs, users)
        for version, percent in self.line.challengers.items():
            challenger = self.rankers[version]
            assert isinstance(challenger, ModelRanker)
            rows = np.flatnonzero(share_of_users(users, version, percent))
            theirs = challenger.answer({name: values[rows] for name, values in inputs.items()})
            ranked = with_challenger(ranked, Challenger(challenger.norms, percent), theirs, rows)
        return ranked


def _rankers(
    settings: Settings, lines: Mapping[Commit, JournalLine], models: Sequence[Path], catalogue_hash: str, names: Sequence[str]
) -> dict[str, ModelRanker | PriorRanker]:
    """Load the models that the journal names.

    Raises:
        ConfigError: One is not among the folders.
    """
    wanted = {version for line in lines.values() for version in (line.model_version, *line.challengers)}
    found: dict[str, ModelRanker | PriorRanker] = {"none": PriorRanker()}
    chosen = settings.model
    for folder in models or [Path(chosen.path)]:
        if not wanted - found.keys():
            break
        loader = RankerLoader(
            catalogue_hash=catalogue_hash,
            feature_names=names,
            engine="auto" if chosen.engine == "none" else chosen.engine,
            precision=chosen.precision,
            threshold=chosen.fraud_threshold,
        )
        ranker = loader.load(folder)
        found[ranker.version] = ranker
    missing = sorted(wanted - found.keys())
    if missing:
        raise ConfigError(
            f"the journal names the models {', '.join(missing)}, which are not among those given "
            f"({', '.join(sorted(found.keys() - {'none'})) or 'none'}): name their folders with --model, once for each"
        )
    return found
