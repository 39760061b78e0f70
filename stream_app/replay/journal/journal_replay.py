"""Journal replay: repeat a recorded live run in its own order, so that every feature and answer is the live one to the bit.

Every commit of the journal has two steps: its read, which saw certain commits of all groups, and the commit itself.
`journal_order` puts the steps into an order in which each read sees exactly those commits. The groups of one batch are
independent and are replayed separately. The clock and the models of a commit are those in its journal line.

From a snapshot of live state the replay starts with each group's first commit after the snapshot. A read in progress during the
snapshot may have seen an older state of another group. Such a commit writes only its own group's state, which is right; its
answers are unknown and are left out: the replay's answers start with the next commit of the group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
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
from stream_app.replay.checkpoints.checkpoint import Resumable
from stream_app.replay.checkpoints.state_file import GroupHeader, read_header
from stream_app.replay.journal.journal_order import Commit, is_settled, serial_order
from stream_app.replay.journal.journal_store import JournalStore
from stream_app.store.port import CommitStatus, Snapshot
from stream_app.wiring import build_engine, build_pipeline, shared_kinds


class JournalReplay(Resumable):
    """Replays a recording; checkpoints include reads in progress.

    Every model version in the journal must be among the folders `models`. Without a snapshot (initial live state) the journal
    must start with the first commit.

    Attributes:
        position: Number of records of the yielded commits.
        total: Number of records of all commits to be yielded.
        start_offsets: "topic-partition" -> first answered offset; empty without a snapshot.
        left_out: Number of records after the snapshot whose answers are unknown.

    Raises:
        InputFileError: The snapshot is damaged, or has another number of groups.
    """

    def __init__(self, settings: Settings, run: RecordedRun, models: Sequence[Path] = (), snapshot: Path | None = None) -> None:
        self._lines, self._run = run.journal(), run
        self.engine = build_engine(settings)
        groups = max(settings.kafka.partitions, 1 + max((group for group, _ in self._lines), default=0))
        self.store = JournalStore(groups, shared_kinds(self.engine), settings.redis.max_replicas, settings.redis.answers_kept_ms)
        self._start: dict[int, int] = {}  # group -> commit number of the initial state
        self._open_reads: dict[Commit, Snapshot] = {}  # what the reads in progress saw
        self._committed: dict[int, int] = {}
        self.start_offsets: dict[str, int] = {}
        self.position = self.left_out = 0
        if snapshot is not None:
            self._begin_with(snapshot, groups)
        self.clock = SettableClock()
        bare = replace(settings, model=replace(settings.model, engine="none"))
        base = build_pipeline(bare, self.engine, self.store, self.clock, Metrics(CollectorRegistry()))
        self.pipeline = replace(
            base, outputs=replace(base.outputs, records_features=settings.features.record or run.has_features())
        )
        self._rankers = _rankers(settings, self._lines, models, self.engine.catalogue_hash, self.engine.feature_names)
        self._streams: dict[tuple[str, int], _Stream] = {}
        self._loop = asyncio.new_event_loop()
        self._epochs = {group: self._loop.run_until_complete(self.store.claim(group, "replay")).epoch for group in range(groups)}
        self.total = sum(_records_of(line) for line in self._lines.values()) - self.left_out

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
        self._start = {group: group_header.commit for group, group_header in header.groups.items()}
        self._committed = dict(self._start)
        self._lines = {(group, number): line for (group, number), line in self._lines.items() if number > self._start[group]}
        for group, group_header in header.groups.items():
            self._begin_group(group, group_header)

    def _begin_group(self, group: int, group_header: GroupHeader) -> None:
        """Find the start of the group's answers, and load earlier answers from the recording."""
        fronts, commit = dict(group_header.fronts), group_header.commit + 1
        oldest_ms = self._lines[group, commit].scored_time_ms if (group, commit) in self._lines else 0
        while (group, commit) in self._lines and not is_settled(self._lines[group, commit], self._start):
            line = self._lines[group, commit]
            fronts.update({topic: end for topic, (_, end) in line.ranges.items()})
            self.left_out += _records_of(line)
            commit += 1
        self.store.answer_from(self._run, group, (commit, fronts), oldest_ms)
        self.start_offsets.update({f"{topic}-{group}": offset for topic, offset in fronts.items()})

    def save(self, folder: Path, name: str) -> list[str]:
        """Write the state and the reads in progress to a file."""
        file = f"{name}.bin"
        self.store.save(folder / file, self.engine, self._open_reads)
        return [file]

    def restore(self, position: int, paths: Sequence[Path]) -> None:
        """Restore the replay to the point of `save`."""
        [path] = paths
        self._open_reads = self.store.restore(path)
        self._committed = {group: group_header.commit for group, group_header in read_header(path).groups.items()}
        self._lines = {(group, number): line for (group, number), line in self._lines.items() if number > self._committed[group]}
        self.position = position

    def batches(self) -> Iterator[ReplayBatch]:
        """Yield the batch of each commit, in an order of the journal.

        Raises:
            InputFileError: The recording lacks a commit or a record, or its journal has no serial order.
        """
        read = {commit: self._read(self._lines[commit], seen) for commit, seen in self._open_reads.items()}
        for kind, commit in serial_order(self._lines, self._committed, frozenset(read)):
            line = self._lines[commit]
            if kind == "read":
                read[commit] = self._read(line)
                assert self.store.saw is not None
                self._open_reads[commit] = self.store.saw
                continue
            decoded, scored = read.pop(commit)
            del self._open_reads[commit]
            batch = self._committed_batch(line, decoded, scored)
            if is_settled(line, self._start):
                yield batch

    def _read(self, line: JournalLine, saved_read: Snapshot | None = None) -> tuple[DecodedBatch, BatchCommit]:
        decoded = self._decode(line)
        return decoded, self._score(line, decoded, saved_read)

    def _decode(self, line: JournalLine) -> DecodedBatch:
        spans, records = [], []
        for topic, (start, end) in line.ranges.items():
            spans.append(OffsetSpan(line.group, self._epochs[line.group], topic, start, end))
            key = (topic, line.group)
            if key not in self._streams:
                self._streams[key] = _Stream(self._run.records(topic, line.group))
            records += [(topic, record) for record in self._streams[key].take(start, end)]
        return self.pipeline.prepare(spans, records)

    def _score(self, line: JournalLine, decoded: DecodedBatch, saved_read: Snapshot | None) -> BatchCommit:
        if line.features_version != self.engine.catalogue_hash:
            raise ConfigError(
                f"commit {line.commit} of group {line.group} was made with the features {line.features_version}, this release "
                f"has {self.engine.catalogue_hash}: replay it with the release that was live"
            )
        times = [record.timestamp for record in decoded.records]
        self.clock.set_ms(line.scored_time_ms or max(times, default=0))  # lines of earlier releases lack it
        self.store.at(line, self.clock.now_ms(), saved_read)
        pipeline = replace(self.pipeline, ranker=_LineRanker(line, self._rankers))
        return self._loop.run_until_complete(pipeline.score(decoded))

    def _committed_batch(self, line: JournalLine, decoded: DecodedBatch, scored: BatchCommit) -> ReplayBatch:
        [result] = self._loop.run_until_complete(self.store.commit(scored.steps))
        if result.status is not CommitStatus.APPLIED or result.commit != line.commit:
            raise InputFileError(
                f"the journal's commit {line.commit} of group {line.group} does not follow on the one before "
                f"({result.status.value}: {result.detail}). Was the run recorded while records expired?"
            )
        first = self.position
        if is_settled(line, self._start):
            self.position += len(decoded.events) + len(decoded.dead)
        return ReplayBatch(first, self.position, decoded, scored.scored, scored.outboxes[line.group].topics, [])


def _records_of(line: JournalLine) -> int:
    return sum(end - start for start, end in line.ranges.values())


class _Stream:
    """One partition of a source topic, read once from its beginning."""

    def __init__(self, records: Iterator[LogRecord]) -> None:
        self._records = records
        self._next: LogRecord | None = next(records, None)

    def take(self, start: int, end: int) -> Iterator[LogRecord]:
        """Yield the records of the offsets [start, end); offsets without a record are markers of the broker."""
        while self._next is not None and self._next.offset < end:
            if self._next.offset >= start:
                yield self._next
            self._next = next(self._records, None)


@dataclass(frozen=True)
class _LineRanker:
    """Ranks as the workers did: by the champion and challengers of the journal line, or by rules alone for a degraded batch."""

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
    """Load the models in the journal.

    Raises:
        ConfigError: A model is not among the folders.
    """
    versions = {version for line in lines.values() for version in (line.model_version, *line.challengers)}
    rankers: dict[str, ModelRanker | PriorRanker] = {"none": PriorRanker()}
    chosen = settings.model
    loader = RankerLoader(
        catalogue_hash=catalogue_hash,
        feature_names=names,
        engine="auto" if chosen.engine == "none" else chosen.engine,
        precision=chosen.precision,
        threshold=chosen.fraud_threshold,
    )
    for folder in models or [Path(chosen.path)]:
        if not versions - rankers.keys():
            break
        ranker = loader.load(folder)
        rankers[ranker.version] = ranker
    missing = sorted(versions - rankers.keys())
    if missing:
        raise ConfigError(
            f"the journal names the models {', '.join(missing)}, which are not among those given "
            f"({', '.join(sorted(rankers.keys() - {'none'})) or 'none'}): name their folders with --model, once for each"
        )
    return rankers
