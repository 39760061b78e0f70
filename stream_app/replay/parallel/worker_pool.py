"""The processes of a replay that is split by entity: each has a chunk of the segment, and a share of the state.

They are told what to do through pipes; what one has for another goes through files. A process ends when its pipe is closed, so
none is left when the one that started them is killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
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
    joined_judgement,
    shared_kinds,
    shares_at,
    taken,
    user_kinds,
)
from stream_app.replay.parallel.state_shards import StateShard, load_kept, load_state, save_state

__all__ = ["WorkerPool"]

_CLOSE_S: Final = 10.0
_Order = tuple[Any, ...]  # a method of _Member and what to call it with


class WorkerPool:
    """The processes, and the pipes to them."""

    def __init__(self, settings: Settings, folder: Path, processes: int) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads of the model's library in whatever state
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for number in range(processes):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, settings, folder, number, processes), daemon=True)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()  # ends the process, once it has done what it was told
        for process in self._processes:
            process.join(_CLOSE_S)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()

    def order(self, orders: Sequence[_Order]) -> None:
        """Give process i the i-th order."""
        for pipe, order in zip(self._pipes, orders, strict=False):
            with contextlib.suppress(BrokenPipeError):  # the reply says what became of it
                pipe.send(order)

    def all(self, orders: Sequence[_Order]) -> list[Any]:
        """Give process i the i-th order, and wait for all replies."""
        self.order(orders)
        return [self.reply(member) for member in range(len(orders))]

    def reply(self, member: int) -> Any:  # noqa: ANN401 (whatever the order asks for)
        """Wait for a process's reply."""
        try:
            reply = self._pipes[member].recv()
        except (EOFError, ConnectionResetError) as err:
            process = self._processes[member]
            process.join(_CLOSE_S)
            raise ServiceError(
                f"process {member + 1} of {len(self._processes)} of the replay ended (exit status {process.exitcode}; -9: it was "
                "killed, by the kernel if memory ran out). Start the replay again, with fewer --processes if memory is short; "
                "with --out it goes on from its last checkpoint"
            ) from err
        if isinstance(reply, MillraceError):
            raise reply
        return reply


def _serve(pipe: Connection, settings: Settings, folder: Path, number: int, processes: int) -> None:
    """Do what the pipe says until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was started by hand; it closes the pipe
    with contextlib.suppress(EOFError, BrokenPipeError):
        try:
            with _Member(settings, folder, number, processes) as member:
                while True:
                    name, *given = pipe.recv()
                    pipe.send(getattr(member, name)(*given))
        except MillraceError as err:  # the replay ends with it
            pipe.send(err)


class _Member:
    """One process: its chunk of the segment, and its share of the state."""

    def __init__(self, settings: Settings, folder: Path, number: int, processes: int) -> None:
        self._folder, self._number, self._processes = folder, number, processes
        self._replay = CanonicalReplay(settings)
        engine = self._replay.engine
        self._engine = engine
        self._users = MemoryState(engine, user_kinds(engine))
        self._kinds = {kind: MemoryState(engine, (kind,)) for kind in shared_kinds(engine)}
        self._share = StateShard(number, processes)
        self._held: tuple[LogChunk, DecodedBatch] | None = None

    def __enter__(self) -> _Member:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._replay.close()

    def save(self, path: Path, events: int) -> None:
        """Write this share of the state. Segments end where the time changes, so no earlier answer is asked for again."""
        save_state(path, self._engine, [self._users, *self._kinds.values()], events, DuplicateCache())

    def load(self, paths: Sequence[Path]) -> int:
        """Take in this share of the state; returns so many commits it has seen."""
        states = {**dict.fromkeys(user_kinds(self._engine), self._users), **self._kinds}
        load_kept(paths, self._replay.kept)
        return load_state(paths, self._engine, states, self._share)

    def prepare(self, segment: int, chunk: LogChunk) -> int:
        """Decode a chunk and hand its columns to the shares; returns how many events it has."""
        prepared = self._replay.prepare(chunk)
        self._held = chunk, prepared
        users = user_kinds(self._engine)
        for by, kinds in ((users[0], users), *((kind, (kind,)) for kind in self._kinds)):
            self._hand_out(segment, prepared.columns, by, kinds)
        return len(prepared.events)

    def _hand_out(self, segment: int, columns: EventColumns | None, by: str, kinds: Sequence[str]) -> None:
        """Write each share's part of a chunk; None where it has none."""
        shares = [] if columns is None else shares_at(columns.keys, by, self._processes)
        for share in range(self._processes):
            at = shares[share] if shares else np.zeros(0, np.int64)
            part = (at, taken(columns, at, kinds)) if columns is not None and len(at) else None
            self._write(part, segment, by, self._number, share)

    def users(self, segment: int, firsts: Sequence[int]) -> None:
        """Fold the users of this share; `firsts`: number of each chunk's first event in the log."""
        by = user_kinds(self._engine)[0]
        for chunk, first in enumerate(firsts):
            folded = None
            if (found := self._read(segment, by, chunk, self._number)) is not None:
                at, part = found
                folded = fold_users(self._engine, self._users, part, at, first + at + 1)
            self._write(folded, segment, "users", self._number, chunk)

    def kinds(self, segment: int, chunks: int) -> None:
        """Fold the shared entities of this share."""
        for chunk in range(chunks):
            users = self._of_users(segment, chunk, keep=True)
            judged = joined_judgement(sum(len(user.at) for user in users), users)
            folded = []
            for kind, state in self._kinds.items():
                if (found := self._read(segment, kind, chunk, self._number)) is not None:
                    at, part = found
                    folded.append(fold_kind(self._engine, state, kind, part, at, judged))
            self._write(folded, segment, "kinds", self._number, chunk)

    def answer(self, segment: int, start: tuple[int, int]) -> ReplayBatch:
        """Join, score and answer the chunk; `start`: position of its first record and number of its first event in the log."""
        assert self._held is not None
        chunk, prepared = self._held
        self._held = None
        users = self._of_users(segment, self._number, keep=False)  # read by a chunk without events too: that removes the files
        kinds: list[KindFeatures] = []
        for share in range(self._processes):
            kinds += self._read(segment, "kinds", share, self._number)
        folded = None if prepared.columns is None else join(self._engine, prepared.columns, users, kinds)
        self._replay.position, self._replay.events = start
        return self._replay.answer(chunk, prepared, folded)

    def _of_users(self, segment: int, chunk: int, *, keep: bool) -> list[UserFeatures]:
        found = [self._read(segment, "users", share, chunk, keep=keep) for share in range(self._processes)]
        return [user for user in found if user is not None]

    def _path(self, segment: int, what: str, source: int, target: int) -> Path:
        return self._folder / f"{segment}-{what}-{source}-{target}"

    def _write(self, part: object, segment: int, what: str, source: int, target: int) -> None:
        with self._path(segment, what, source, target).open("wb") as file:
            pickle.dump(part, file, pickle.HIGHEST_PROTOCOL)

    def _read(self, segment: int, what: str, source: int, target: int, *, keep: bool = False) -> Any:  # noqa: ANN401
        # What comes out is what was written under that name.
        path = self._path(segment, what, source, target)
        with path.open("rb") as file:
            part = pickle.load(file)  # noqa: S301 (this replay's own processes wrote it, into a folder of this user alone)
        if not keep:
            path.unlink()
        return part
