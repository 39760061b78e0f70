"""Canonical replay on several processes: the same bytes as on one.

The log goes through in segments of one chunk for each process. A segment takes four steps, each done by all processes at once:

    prepare   process i decodes chunk i, and cuts its columns into the shares of the entities
    users     process t folds its share of the users, chunk by chunk: lateness, repetition, sequences
    kinds     process t folds its share of each shared kind
    answer    process i joins the features of chunk i, scores it and builds its answers

A process keeps the state of its share from segment to segment. What one process has for another goes through files in a temporary
folder, which are removed once they are read; the pipes carry orders and the finished batches. Chunks end where the event time
changes, so that what a duplicate is answered from is in its own chunk.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import cast

from stream_app.config import Settings
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_source import LogChunk, LogSource, chunks_of
from stream_app.replay.canonical import ReplayBatch
from stream_app.replay.parallel.worker_pool import WorkerPool

__all__ = ["SplitReplay"]


class SplitReplay:
    """One replay on several processes. Use it as a context, or `close` it.

    Args:
        settings: What a worker would be started with.
        processes: How many; each loads the model and holds its share of the state.

    Attributes:
        position: Records of source topics behind which the next segment begins.
        at_rest: Whether all batches of the segment were given out; the state has seen all of it from its first batch on.
    """

    def __init__(self, settings: Settings, processes: int) -> None:
        self._processes = processes
        self._folder = tempfile.TemporaryDirectory(prefix="millrace-replay-")
        self._team = WorkerPool(settings, Path(self._folder.name), processes)
        self.position = self._events = 0
        self.at_rest = True

    @property
    def each_batch(self) -> bool:
        """Never: the state is in the processes."""
        return False

    def __enter__(self) -> SplitReplay:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End the processes."""
        self._team.close()
        self._folder.cleanup()

    def load(self, path: Path) -> None:
        """Begin with the state of a snapshot; see `CanonicalReplay.load`.

        Raises:
            InputFileError: The file is damaged.
            ContractError: The file describes state of another release.
        """
        self._restored([path])

    def save(self, folder: Path, name: str) -> list[str]:
        """Write each process's share of the state into a file of its own; see `checkpoint.Resumable`."""
        files = [f"{name}-{number}.bin" for number in range(self._processes)]
        self._team.all([("save", folder / file, self._events) for file in files])
        return files

    def restore(self, position: int, paths: Sequence[Path]) -> None:
        """Be where `save` was called, by whatever number of processes."""
        self._restored(paths)
        self.position = position

    def _restored(self, paths: Sequence[Path]) -> None:
        self._events = max(self._team.all([("load", paths)] * self._processes))

    def batches(self, source: LogSource, size: int) -> Iterator[ReplayBatch]:
        """Replay a log from where this replay stands; yields what CanonicalReplay yields, in order of the log.

        Args:
            source: The log.
            size: Records of a batch.

        Raises:
            ServiceError: A process was killed.
            MillraceError: What went wrong in one of them.
        """
        ahead: list[tuple[str, str, str]] = []  # labels that are none, of a segment that is read but not replayed
        read = chunks_of(source, size, self.position, whole_times=True, refuse=lambda *why: ahead.append(why))
        chunks = cast("Generator[LogChunk]", read)
        with contextlib.closing(chunks):  # an error must not leave what the log was sorted in
            yield from self._segments(chunks, source.problems, ahead)

    def _segments(
        self, chunks: Iterator[LogChunk], problems: LogIssues, ahead: list[tuple[str, str, str]]
    ) -> Iterator[ReplayBatch]:
        team, number = self._team, 0
        segment = list(islice(chunks, self._processes))
        while segment:
            _catch_up(problems, ahead)
            counts = team.all([("prepare", number, chunk) for chunk in segment])
            starts = [
                (self.position + sum(len(chunk.records) for chunk in segment[:i]), self._events + sum(counts[:i]))
                for i in range(len(segment))
            ]
            team.all([("users", number, [first for _, first in starts])] * self._processes)
            team.all([("kinds", number, len(segment))] * self._processes)
            team.order([("answer", number, start) for start in starts])
            self.position += sum(len(chunk.records) for chunk in segment)
            self._events += sum(counts)
            waiting, segment = len(segment), list(islice(chunks, self._processes))  # read while the answers are made
            number += 1
            for member in range(waiting):
                batch = team.reply(member)
                self.at_rest = member == waiting - 1
                yield batch
        _catch_up(problems, ahead)


def _catch_up(problems: LogIssues, ahead: list[tuple[str, str, str]]) -> None:
    """Note what was wrong with records that were read ahead: a checkpoint before them does not know of them."""
    waiting = ahead.copy()
    ahead.clear()
    for why in waiting:
        problems.add(*why, of_record=True)
