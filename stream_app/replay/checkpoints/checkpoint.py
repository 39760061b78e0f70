"""How far a replay is: its position, its state and where its sinks stand, written together so that all of it counts or none.

The files of the state first; the checkpoint names them and is replaced atomically. A replay that was killed goes on from the last
one, and its files are in the end the same bytes as those of one that was not.

State that is kept in a store moves on batch by batch and cannot be put back. Such a replay writes down every batch before its
state is committed, and keeps the point before too: the store stands at one of the two, and says at which.
"""

from __future__ import annotations

import copy
import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from stream_app.errors import ConfigError
from stream_app.logs.log_issues import LogIssues

__all__ = ["CheckpointFolder", "ReplayCheckpoint", "Resumable", "replay_identity"]


class Resumable(Protocol):
    """A replay that can go on from a checkpoint.

    Attributes:
        at_rest: Whether its state has seen just the batches that it has given out: it can be saved now.
        position: So many records of the log were replayed.
        each_batch: Whether its state moves on in a store, so that every batch must be written down before the next is asked for.
    """

    position: int

    @property
    def at_rest(self) -> bool: ...  # noqa: D102

    @property
    def each_batch(self) -> bool: ...  # noqa: D102

    def save(self, folder: Path, name: str) -> list[str]:
        """Write what it needs to go on into new files, whose names begin with `name`; return the names."""
        ...

    def restore(self, position: int, paths: Sequence[Path]) -> None:
        """Be where `save` was called, so many records from the log's beginning; nothing was replayed yet."""
        ...


class ReplayCheckpoint(msgspec.Struct, kw_only=True):
    """A point that a replay can go on from.

    Attributes:
        position: Records done.
        states: Names of the state's files.
        sinks: Where each sink stands.
        counts: What the summary has counted so far.
        problems: Of the records done (`LogIssues.kept`); those of reading are met again.
    """

    position: int
    states: list[str]
    sinks: dict[str, dict[str, int]]
    counts: dict[str, Any]
    problems: list[tuple[str, str, int, list[str]]] = []


class _Points(msgspec.Struct, kw_only=True):
    """The file: which replay it is, and its points, the newest one last."""

    identity: str
    points: list[ReplayCheckpoint]


def replay_identity(*parts: str) -> str:
    """Return a hash of what makes it this replay."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


class CheckpointFolder:
    """Where a replay's checkpoints are.

    Args:
        folder: Made when needed.
        identity: Of the log, the settings and the sinks: another replay does not go on from here.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder, self._identity = folder, identity
        self._file = folder / "checkpoint.json"
        self._points: list[ReplayCheckpoint] = []
        self._run = secrets.token_hex(4)  # processes of a run that was killed may still write; never over this run's files

    def load(self, position: int | None = None) -> ReplayCheckpoint | None:
        """Return the last checkpoint; None if there is none.

        Args:
            position: Where a store's state stands: the point there is returned.

        Raises:
            ConfigError: It is of another replay, or cannot be read.
        """
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=_Points)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as err:
            raise ConfigError(f"the checkpoint {self._file} cannot be read ({err}). Use --restart to begin anew") from err
        if found.identity != self._identity:
            raise ConfigError(
                f"{self._folder} holds the checkpoint of another replay, stopped after {found.points[-1].position:,} records: "
                "its log, settings or options differ. Use --restart to begin anew, or another --out"
            )
        usable = [point for point in found.points if position is None or point.position == position]
        self._points = usable[-1:]
        return usable[-1] if usable else None

    def restore(self, found: ReplayCheckpoint, replay: Resumable) -> None:
        """Bring a fresh replay to where the checkpoint is."""
        replay.restore(found.position, [self._folder / name for name in found.states])

    def save(
        self, replay: Resumable, position: int, sinks: dict[str, dict[str, int]], counts: dict[str, Any], problems: LogIssues
    ) -> None:
        """Write one; what the sinks were given must be safe already."""
        self._folder.mkdir(parents=True, exist_ok=True)
        point = ReplayCheckpoint(
            position=position,
            states=replay.save(self._folder, f"state-{position}-{self._run}"),
            sinks=sinks,
            counts=counts,
            problems=problems.checkpoint(),
        )
        point = copy.deepcopy(point)  # the replay goes on counting, and this point may be written once more
        self._points = [*self._points[-1:], point] if replay.each_batch else [point]
        fresh = self._file.with_suffix(".tmp")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(_Points(identity=self._identity, points=self._points)))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file)
        self._tidy({name for kept in self._points for name in kept.states})

    def remove(self) -> None:
        """Forget it: the replay is complete, or begins anew."""
        self._file.unlink(missing_ok=True)
        self._points = []
        self._tidy(set())
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _tidy(self, kept: set[str]) -> None:
        for path in self._folder.glob("state-*"):  # what a run that was killed has begun to write among them
            if path.name not in kept:
                path.unlink(missing_ok=True)
