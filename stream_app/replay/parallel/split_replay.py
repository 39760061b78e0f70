"""Canonical replay on several processes: the same bytes as on one.

The log is read in segments of one chunk per process. A segment takes four steps, each on all processes in parallel:

    prepare   process i decodes chunk i, and cuts its columns into the shares of the entities
    users     process t folds its share of the users, chunk by chunk: lateness, repetition, sequences
    kinds     process t folds its share of each shared kind
    answer    process i joins the features of chunk i, scores it and builds its answers

A process keeps the state of its share between segments. Processes exchange partitions through files in a temporary folder, which
are removed after reading; the pipes carry commands and finished batches. Chunks end where the event time changes, so that a
duplicate and its original are in the same chunk.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import cast

from stream_app.config import Settings
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_source import LogChunk, LogSource, chunks_of
from stream_app.replay.canonical import ReplayBatch
from stream_app.replay.checkpoints.checkpoint import Resumable
from stream_app.replay.parallel.worker_pool import WorkerPool


class SplitReplay(Resumable):
    """One replay on several processes; each loads the model and holds its share of the state.

    Attributes:
        position: Number of records of source topics before the next segment.
        at_rest: Whether all batches of the segment were yielded; the state includes the whole segment from its first batch on.
    """

    def __init__(self, settings: Settings, processes: int) -> None:
        self._processes = processes
        self._folder = tempfile.TemporaryDirectory(prefix="millrace-replay-")
        self._pool = WorkerPool(settings, Path(self._folder.name), processes)
        self.position = self._events = 0

    def close(self) -> None:
        """End the processes."""
        self._pool.close()
        self._folder.cleanup()

    def load(self, path: Path) -> None:
        """Load the initial state from a snapshot; see `CanonicalReplay.load`."""
        self._load([path])

    def save(self, folder: Path, name: str) -> list[str]:
        """Write each process's share of the state into a file of its own."""
        files = [f"{name}-{number}.bin" for number in range(self._processes)]
        self._pool.run([("save", folder / file, self._events) for file in files])
        return files

    def restore(self, position: int, paths: Sequence[Path]) -> None:
        """Restore the replay to the point of `save`, which any number of processes may have written."""
        self._load(paths)
        self.position = position

    def _load(self, paths: Sequence[Path]) -> None:
        self._events = max(self._pool.run([("load", paths)] * self._processes))

    def batches(self, source: LogSource, size: int) -> Iterator[ReplayBatch]:
        """Replay a log from `position` on in batches of `size` records; yields the batches of CanonicalReplay, in order.

        Raises:
            ServiceError: A process was killed.
            MillraceError: A process failed with this error.
        """
        ahead: list[tuple[str, str, str]] = []  # invalid labels of a segment that was read but not replayed
        read = chunks_of(source, size, self.position, whole_times=True, refuse=lambda *why: ahead.append(why))
        chunks = cast("Generator[LogChunk]", read)
        with contextlib.closing(chunks):  # an error must not leave the sorter's temporary files
            yield from self._segments(chunks, source.problems, ahead)

    def _segments(
        self, chunks: Iterator[LogChunk], problems: LogIssues, ahead: list[tuple[str, str, str]]
    ) -> Iterator[ReplayBatch]:
        pool, number = self._pool, 0
        segment = list(islice(chunks, self._processes))
        while segment:
            _catch_up(problems, ahead)
            counts = pool.run([("prepare", number, chunk) for chunk in segment])
            starts = [
                (self.position + sum(len(chunk.records) for chunk in segment[:i]), self._events + sum(counts[:i]))
                for i in range(len(segment))
            ]
            pool.run([("users", number, [first for _, first in starts])] * self._processes)
            pool.run([("kinds", number, len(segment))] * self._processes)
            pool.send([("answer", number, start) for start in starts])
            self.position += sum(len(chunk.records) for chunk in segment)
            self._events += sum(counts)
            waiting, segment = len(segment), list(islice(chunks, self._processes))  # read while the answers are made
            number += 1
            for worker in range(waiting):
                batch = pool.reply(worker)
                self.at_rest = worker == waiting - 1
                yield batch
        _catch_up(problems, ahead)


def _catch_up(problems: LogIssues, ahead: list[tuple[str, str, str]]) -> None:
    """Record the issues of records that were read ahead; a checkpoint before those records must not contain them."""
    waiting = ahead.copy()
    ahead.clear()
    for why in waiting:
        problems.add(*why, of_record=True)
