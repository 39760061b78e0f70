"""Journal replay: a recorded live run in its own order, so that every feature and every answer comes out as it did, to the bit.

Every commit of the journal is two things: its read, which saw certain commits of all groups, and the commit itself. They are put
into one order in which each read sees just those commits:

    commit n of a group comes after its read, and after all reads that saw the group at n - 1
    a read comes after the commits that it saw, and before the next one of each of these groups

A live run on one Redis server has such an order: the one in which the server served them. What the groups of one batch did is
independent, so each is replayed by itself. Answers are decided at the time that the journal says, by the model that it names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from stream_app.clock import SettableClock
from stream_app.codec.ranked import Challenger, Ranked
from stream_app.config import Settings
from stream_app.errors import ConfigError, InputFileError
from stream_app.events import JournalLine
from stream_app.inference.degrade import rules_only
from stream_app.inference.loading import RankerLoader
from stream_app.inference.ranker import ModelRanker, PriorRanker
from stream_app.inference.share import share_of_users
from stream_app.inference.swap import challenged
from stream_app.metrics import Metrics
from stream_app.pipeline import Prepared, Scored, Span
from stream_app.replay.canonical import ReplayBatch
from stream_app.replay.recorded import RecordedRun
from stream_app.replay.records import LogRecord
from stream_app.store.memory import MemoryStore
from stream_app.store.port import CommitStatus
from stream_app.wiring import build_engine, build_pipeline, shared_kinds

__all__ = ["JournalReplay", "serial_order"]

_SLACK_MS: Final = 600_000  # answers are kept from when they were published, which the journal does not tell

Commit = tuple[int, int]  # group, number


def serial_order(lines: Mapping[Commit, JournalLine], start: Mapping[int, int]) -> Iterator[tuple[str, Commit]]:
    """Order reads and commits: yields ("read", line) and ("commit", line).

    Args:
        lines: The journal.
        start: Group -> the commit that the state to begin with has.

    Raises:
        InputFileError: A commit is missing, or there is no such order.
    """
    reads = {(group, number): {int(other): seen for other, seen in line.reads.items()} for (group, number), line in lines.items()}
    groups = sorted({group for group, _ in lines})
    last = {group: max(number for other, number in lines if other == group) for group in groups}
    committed = {group: start.get(group, 0) for group in {*groups, *(other for seen in reads.values() for other in seen)}}
    read = {group: committed[group] for group in groups}
    for group in groups:
        missing = [n for n in range(committed[group] + 1, last[group] + 1) if (group, n) not in lines]
        if missing:
            raise InputFileError(
                f"the journal of group {group} lacks commit {missing[0]} ({len(missing)} of {last[group]} are missing): record "
                "the run from its beginning"
            )
    while any(committed[group] < last[group] for group in groups):
        step = _next_step(groups, last, committed, read, reads)
        if step is None:
            waiting = {group: reads[group, read[group] + 1] for group in groups if (group, read[group] + 1) in reads}
            raise InputFileError(
                f"no order of the journal's commits gives every read what it saw. Committed: {committed}; the next reads of the "
                f"groups saw {waiting}. A Redis Cluster reads its nodes one after the other, and a journal may then have no order"
            )
        kind, (group, number) = step
        (read if kind == "read" else committed)[group] = number
        yield step


def _next_step(
    groups: Sequence[int], last: Mapping[int, int], committed: Mapping[int, int], read: Mapping[int, int],
    reads: Mapping[Commit, Mapping[int, int]],
) -> tuple[str, Commit] | None:  # fmt: skip
    for group in groups:
        number = committed[group] + 1
        if number > last[group]:
            continue
        if read[group] < number:
            if all(committed[other] == seen for other, seen in reads[group, number].items()):
                return "read", (group, number)
        elif all(_has_moved_on(reads.get((other, read[other] + 1)), group, number) for other in groups if other != group):
            return "commit", (group, number)
    return None


def _has_moved_on(seen: Mapping[int, int] | None, group: int, number: int) -> bool:
    """Whether a group's next read saw this commit, or there is none: then nobody needs the state before it."""
    return seen is None or seen.get(group, number) >= number


class JournalReplay:
    """Replays a recording. Use it as a context, or `close` it.

    Args:
        settings: What the workers were started with.
        run: The recording.
        models: Folders of the models that answered; a version that the journal names and that is not among them is an error.
    """

    def __init__(self, settings: Settings, run: RecordedRun, models: Sequence[Path] = ()) -> None:
        self._lines, self._run = run.journal(), run
        self.engine = build_engine(settings)
        groups = max(settings.kafka.partitions, 1 + max((group for group, _ in self._lines), default=0))
        self.store = _JournalStore(groups, shared_kinds(self.engine), settings.redis.max_replicas, settings.redis.answers_kept_ms)
        self.clock = SettableClock()
        bare = replace(settings, model=replace(settings.model, engine="none"))
        built = build_pipeline(bare, self.engine, self.store, self.clock, Metrics(CollectorRegistry()))
        self.pipeline = replace(built, records_features=settings.features.record or run.has_features())
        self._rankers = _rankers(settings, self._lines, models, self.engine.catalogue_hash, self.engine.feature_names)
        self._streams: dict[tuple[str, int], _Stream] = {}
        self._loop = asyncio.new_event_loop()
        self._epochs = {group: self._loop.run_until_complete(self.store.claim(group, "replay")).epoch for group in range(groups)}
        self.position = 0
        self.total = sum(end - start for line in self._lines.values() for start, end in line.ranges.values())

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

    def batches(self) -> Iterator[ReplayBatch]:
        """Yield what each commit did, in an order of the journal.

        Raises:
            InputFileError: The recording lacks a commit or a record, or has no order.
        """
        read: dict[Commit, tuple[Prepared, Scored]] = {}
        for kind, commit in serial_order(self._lines, {}):
            line = self._lines[commit]
            if kind == "read":
                prepared = self._prepared(line)
                read[commit] = prepared, self._scored(line, prepared)
            else:
                prepared, scored = read.pop(commit)
                yield self._committed(line, prepared, scored)

    def _prepared(self, line: JournalLine) -> Prepared:
        spans, records = [], []
        for topic, (start, end) in line.ranges.items():
            spans.append(Span(line.group, self._epochs[line.group], topic, start, end))
            key = (topic, line.group)
            if key not in self._streams:
                self._streams[key] = _Stream(self._run.records(topic, line.group))
            records += [(topic, record) for record in self._streams[key].take(start, end)]
        return self.pipeline.prepare(spans, records)

    def _scored(self, line: JournalLine, prepared: Prepared) -> Scored:
        if line.features_version != self.engine.catalogue_hash:
            raise ConfigError(
                f"commit {line.commit} of group {line.group} was made with the features {line.features_version}, this release "
                f"has {self.engine.catalogue_hash}: replay it with the release that was live"
            )
        times = [record.timestamp for record in prepared.records]
        self.clock.set_ms(line.scored_time_ms or max(times, default=0))  # lines of earlier releases do not say it
        self.store.at(line, self.clock.now_ms())
        pipeline = replace(self.pipeline, ranker=_LineRanker(line, self._rankers))
        return self._loop.run_until_complete(pipeline.score(prepared))

    def _committed(self, line: JournalLine, prepared: Prepared, scored: Scored) -> ReplayBatch:
        [result] = self._loop.run_until_complete(self.store.commit(scored.steps))
        if result.status is not CommitStatus.APPLIED or result.commit != line.commit:
            raise InputFileError(
                f"the journal's commit {line.commit} of group {line.group} does not follow on the one before "
                f"({result.status.value}: {result.detail}). Was the run recorded while records expired?"
            )
        first = self.position
        self.position += len(prepared.events) + len(prepared.dead)
        return ReplayBatch(first, self.position, prepared, scored.judged, scored.outboxes[line.group].topics, [])


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


class _JournalStore(MemoryStore):
    """Finds an earlier commit's answers when live found them: the journal says which it did not."""

    def __init__(self, groups: int, shared: frozenset[str], max_replicas: int, kept_ms: int) -> None:
        super().__init__(groups, shared, max_replicas=max_replicas)
        self._kept_ms = kept_ms + _SLACK_MS
        self._forgotten: frozenset[int] = frozenset()
        self._decided: dict[int, dict[int, int]] = {}  # group -> commit -> when it was decided

    def at(self, line: JournalLine, now_ms: int) -> None:
        """Be the store of the line's read."""
        self._forgotten = frozenset(line.forgotten)
        decided = self._decided.setdefault(line.group, {})
        old = list(takewhile(lambda number: decided[number] < now_ms - self._kept_ms, decided))
        for number in old:
            self.drop_answers(line.group, number)
            del decided[number]
        decided[line.commit] = now_ms

    async def answers(self, group: int, commits: Sequence[int]) -> dict[int, bytes]:
        """Payloads of earlier commits."""
        return await super().answers(group, [number for number in commits if number not in self._forgotten])


@dataclass(frozen=True)
class _LineRanker:
    """Ranks as the workers did: by the champion, the challengers and the rules of a degraded batch that the journal names."""

    line: JournalLine
    rankers: Mapping[str, ModelRanker | PriorRanker]

    @property
    def version(self) -> str:
        """The champion's."""
        return self.line.model_version

    def rank(self, inputs: Mapping[str, NDArray[Any]], users: Sequence[bytes]) -> Ranked:
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
            ranked = challenged(ranked, Challenger(challenger.norms, percent), theirs, rows)
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
