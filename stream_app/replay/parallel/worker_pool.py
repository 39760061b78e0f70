"""Worker processes of a replay split by entity: each has one chunk of the segment and a share of the state.

The parent sends commands over pipes; workers exchange partitions through temporary files. A worker ends when its pipe is closed,
so no worker outlives a killed parent.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from stream_app.batch import DecodedBatch
from stream_app.config import Settings
from stream_app.errors import MillraceError, ServiceError
from stream_app.features.columns.event_columns import EventColumns
from stream_app.logs.log_source import LogChunk
from stream_app.replay.canonical import CanonicalReplay, ReplayBatch
from stream_app.replay.duplicate_cache import DuplicateCache
from stream_app.replay.memory_state import MemoryState
from stream_app.replay.parallel.partitioning import (
    KindFeatures,
    UserFeatures,
    fold_kind,
    fold_users,
    join,
    join_flags,
    select_events,
    shared_kinds,
    shares_at,
    user_kinds,
)
from stream_app.replay.parallel.state_shards import StateShard, load_answers, load_state, save_state

_CLOSE_S: Final = 10.0
_Command = tuple[Any, ...]  # name of a method of _PoolWorker, then its arguments


class WorkerPool:
    """The processes, and the pipes to them."""

    def __init__(self, settings: Settings, folder: Path, processes: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads of the model's library in whatever state
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for number in range(processes):
            own_end, worker_end = context.Pipe()
            process = context.Process(target=_serve, args=(worker_end, settings, folder, number, processes), daemon=True)
            process.start()
            worker_end.close()
            self._pipes.append(own_end)
            self._processes.append(process)

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()  # ends the process after its current command
        for process in self._processes:
            process.join(_CLOSE_S)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()

    def send(self, commands: Sequence[_Command]) -> None:
        """Send the i-th command to process i."""
        for pipe, command in zip(self._pipes, commands, strict=False):
            with contextlib.suppress(BrokenPipeError):  # `reply` raises the error
                pipe.send(command)

    def run(self, commands: Sequence[_Command]) -> list[Any]:
        """Send the i-th command to process i, and wait for all replies."""
        self.send(commands)
        return [self.reply(worker) for worker in range(len(commands))]

    def reply(self, worker: int) -> Any:  # noqa: ANN401 (the result of the command)
        """Wait for a process's reply."""
        try:
            reply = self._pipes[worker].recv()
        except (EOFError, ConnectionResetError) as err:
            process = self._processes[worker]
            process.join(_CLOSE_S)
            raise ServiceError(
                f"process {worker + 1} of {len(self._processes)} of the replay ended (exit status {process.exitcode}; -9: it was "
                "killed, by the kernel if memory ran out). Start the replay again, with fewer --processes if memory is short; "
                "with --out it goes on from its last checkpoint"
            ) from err
        if isinstance(reply, MillraceError):
            raise reply
        return reply


def _serve(pipe: Connection, settings: Settings, folder: Path, number: int, processes: int) -> None:
    """Execute commands from the pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops the parent, which closes the pipe
    with contextlib.suppress(EOFError, BrokenPipeError):
        try:
            with contextlib.closing(_PoolWorker(settings, folder, number, processes)) as worker:
                while True:
                    name, *arguments = pipe.recv()
                    pipe.send(getattr(worker, name)(*arguments))
        except MillraceError as err:  # the replay ends with it
            pipe.send(err)


class _PoolWorker:
    """One process: its chunk of the segment, and its share of the state."""

    def __init__(self, settings: Settings, folder: Path, number: int, processes: int) -> None:
        self._folder, self._number, self._processes = folder, number, processes
        self._replay = CanonicalReplay(settings)
        engine = self._replay.engine
        self._engine = engine
        self._users = MemoryState(engine, user_kinds(engine))
        self._kinds = {kind: MemoryState(engine, (kind,)) for kind in shared_kinds(engine)}
        self._share = StateShard(number, processes)
        self._chunk: tuple[LogChunk, DecodedBatch] | None = None

    def close(self) -> None:
        self._replay.close()

    def save(self, path: Path, events: int) -> None:
        """Write this share of the state. Segments end where the time changes, so no earlier answer is needed."""
        save_state(path, self._engine, [self._users, *self._kinds.values()], events, DuplicateCache())

    def load(self, paths: Sequence[Path]) -> int:
        """Load this share of the state; return its highest commit number."""
        states = {**dict.fromkeys(user_kinds(self._engine), self._users), **self._kinds}
        load_answers(paths, self._replay.duplicates)
        return load_state(paths, self._engine, states, self._share)

    def prepare(self, segment: int, chunk: LogChunk) -> int:
        """Decode a chunk and write its columns per share; return its number of events."""
        decoded = self._replay.prepare(chunk)
        self._chunk = chunk, decoded
        users = user_kinds(self._engine)
        for by, kinds in ((users[0], users), *((kind, (kind,)) for kind in self._kinds)):
            self._hand_out(segment, decoded.columns, by, kinds)
        return len(decoded.events)

    def _hand_out(self, segment: int, columns: EventColumns | None, by: str, kinds: Sequence[str]) -> None:
        """Write each share's part of a chunk; None for an empty part."""
        shares = [] if columns is None else shares_at(columns.keys, by, self._processes)
        for share in range(self._processes):
            at = shares[share] if shares else np.zeros(0, np.int64)
            part = (at, select_events(columns, at, kinds)) if columns is not None and len(at) else None
            self._write(part, segment, by, self._number, share)

    def users(self, segment: int, firsts: Sequence[int]) -> None:
        """Fold the users of this share; `firsts`: index in the log of each chunk's first event."""
        by = user_kinds(self._engine)[0]
        for chunk, first in enumerate(firsts):
            folded = None
            if (piece := self._read(segment, by, chunk, self._number)) is not None:
                at, part = piece
                folded = fold_users(self._engine, self._users, part, at, first + at + 1)
            self._write(folded, segment, "users", self._number, chunk)

    def kinds(self, segment: int, chunks: int) -> None:
        """Fold the shared entities of this share."""
        for chunk in range(chunks):
            users = self._user_features(segment, chunk, keep=True)
            flags = join_flags(sum(len(user.at) for user in users), users)
            folded = []
            for kind, state in self._kinds.items():
                if (piece := self._read(segment, kind, chunk, self._number)) is not None:
                    at, part = piece
                    folded.append(fold_kind(self._engine, state, kind, part, at, flags))
            self._write(folded, segment, "kinds", self._number, chunk)

    def answer(self, segment: int, start: tuple[int, int]) -> ReplayBatch:
        """Join, score and answer the chunk; `start`: position of its first record and number of its first event in the log."""
        assert self._chunk is not None
        chunk, decoded = self._chunk
        self._chunk = None
        # Read by a chunk without events too: that removes the files.
        users = self._user_features(segment, self._number, keep=False)
        kinds: list[KindFeatures] = []
        for share in range(self._processes):
            kinds += self._read(segment, "kinds", share, self._number)
        folded = None if decoded.columns is None else join(self._engine, decoded.columns, users, kinds)
        self._replay.position, self._replay.events = start
        return self._replay.answer(chunk, decoded, folded)

    def _user_features(self, segment: int, chunk: int, *, keep: bool) -> list[UserFeatures]:
        piece = [self._read(segment, "users", share, chunk, keep=keep) for share in range(self._processes)]
        return [user for user in piece if user is not None]

    def _path(self, segment: int, what: str, source: int, target: int) -> Path:
        return self._folder / f"{segment}-{what}-{source}-{target}"

    def _write(self, part: object, segment: int, what: str, source: int, target: int) -> None:
        self._path(segment, what, source, target).write_bytes(pickle.dumps(part, pickle.HIGHEST_PROTOCOL))

    def _read(self, segment: int, what: str, source: int, target: int, *, keep: bool = False) -> Any:  # noqa: ANN401
        """Return the object that `_write` wrote under the same name."""
        path = self._path(segment, what, source, target)
        part = pickle.loads(path.read_bytes())  # noqa: S301 (own processes wrote it, into a folder of this user alone)
        if not keep:
            path.unlink()
        return part
