"""Checkpoints of a replay: position, state and sink positions, written atomically.

State files are written first; then the checkpoint file that names them is replaced atomically. A killed replay resumes from the
last checkpoint, and its output files end with the same bytes as those of an uninterrupted replay.

State in a store advances batch by batch and cannot be rolled back. Such a replay saves a checkpoint for every batch before the
store commits it, and keeps the previous one too: the store's position selects one of the two.
"""

from __future__ import annotations

import copy
import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from model.atomic_file import atomic_write
from stream_app.config import ModelSettings, Settings
from stream_app.errors import ConfigError
from stream_app.logs.log_issues import LogIssues

_CHECKPOINTS: Final = ".replay"


class Resumable(ABC):
    """A replay that can resume from a checkpoint. Use it as a context manager, or `close` it.

    Attributes:
        at_rest: Whether its state includes exactly the batches that it has yielded, so that it can be saved.
        position: Number of replayed records of the log.
        each_batch: Whether its state is in a store, so that every batch needs a checkpoint before the next is requested.
    """

    position = 0
    at_rest = True
    each_batch = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """End threads and processes, and disconnect from the store."""

    @abstractmethod
    def save(self, folder: Path, name: str) -> list[str]:
        """Write its state to new files, whose names start with `name`; return the names."""

    @abstractmethod
    def restore(self, position: int, paths: Sequence[Path]) -> None:
        """Restore a new replay to the point of `save`, `position` records from the log's beginning."""


class ReplayCheckpoint(msgspec.Struct, kw_only=True):
    """A point from which a replay can resume.

    Attributes:
        position: Number of replayed records.
        states: Names of the state's files.
        sinks: Positions of the sinks.
        counts: Counts of the summary.
        problems: Issues of the replayed records (`LogIssues.checkpoint`); reading the log finds its other issues again.
    """

    position: int
    states: list[str]
    sinks: dict[str, dict[str, int]]
    counts: dict[str, Any]
    problems: list[tuple[str, str, int, list[str]]] = []


class _Points(msgspec.Struct, kw_only=True):
    """The checkpoint file: identity of the replay, and its points, newest last."""

    identity: str
    points: list[ReplayCheckpoint]


class CheckpointFolder:
    """The folder of a replay's checkpoints; those of a replay of another identity (hash of log, settings, sinks) are refused."""

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder, self._identity = folder, identity
        self._file = folder / "checkpoint.json"
        self._points: list[ReplayCheckpoint] = []
        self._run = secrets.token_hex(4)  # processes of a killed run may still write; their files have another name

    def load(self, position: int | None = None) -> ReplayCheckpoint | None:
        """Return the last checkpoint, or that at the `position` of a store's state; None if there is none.

        Raises:
            ConfigError: The checkpoint belongs to another replay, or cannot be read.
        """
        try:
            file = msgspec.json.decode(self._file.read_bytes(), type=_Points)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as err:
            raise ConfigError(f"the checkpoint {self._file} cannot be read ({err}). Use --restart to begin anew") from err
        if file.identity != self._identity:
            raise ConfigError(
                f"{self._folder} holds the checkpoint of another replay, stopped after {file.points[-1].position:,} records: "
                "its log, settings or options differ. Use --restart to begin anew, or another --out"
            )
        usable = [point for point in file.points if position is None or point.position == position]
        self._points = usable[-1:]
        return usable[-1] if usable else None

    def restore(self, checkpoint: ReplayCheckpoint, replay: Resumable) -> None:
        """Restore a new replay to the checkpoint."""
        replay.restore(checkpoint.position, [self._folder / name for name in checkpoint.states])

    def save(
        self, replay: Resumable, position: int, sinks: dict[str, dict[str, int]], counts: dict[str, Any], problems: LogIssues
    ) -> None:
        """Write a checkpoint; the sinks must have flushed before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        point = ReplayCheckpoint(
            position=position,
            states=replay.save(self._folder, f"state-{position}-{self._run}"),
            sinks=sinks,
            counts=counts,
            problems=problems.checkpoint(),
        )
        point = copy.deepcopy(point)  # the replay changes the counts, and this point may be written again
        self._points = [*self._points[-1:], point] if replay.each_batch else [point]
        with atomic_write(self._file) as file:
            file.write(msgspec.json.encode(_Points(identity=self._identity, points=self._points)))
        self._tidy({name for point in self._points for name in point.states})

    def remove(self) -> None:
        """Remove the checkpoint: the replay is complete, or starts anew."""
        self._file.unlink(missing_ok=True)
        self._points = []
        self._tidy(set())
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _tidy(self, used: set[str]) -> None:
        for path in self._folder.glob("state-*"):  # includes partial files of killed runs
            if path.name not in used:
                path.unlink(missing_ok=True)


def checkpoints_in(out: Path, settings: Settings, *parts: str) -> CheckpointFolder:
    """Return the checkpoint folder of a replay that writes its answers to `out`; `parts` identify the log and the options."""
    model, privacy = settings.model, settings.privacy
    own = (repr(settings.features), privacy.id_key.get_secret_value(), privacy.alert_entities)
    identity = (model.path, *model_identity(model), str(model.fraud_threshold), *own, *parts)
    return CheckpointFolder(out / _CHECKPOINTS, hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16])


def snapshot_identity(path: Path | None) -> str:
    """Identify a snapshot by path, size and time of change; "" for none."""
    if path is None or not path.exists():
        return str(path or "")  # reading it raises the error
    stat = path.stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def model_identity(model: ModelSettings) -> list[str]:
    """Identify the model in its folder: the manifest has the version and the checksums of the other files."""
    if model.engine == "none":
        return [model.engine]
    return [model.engine, model.precision, manifest_identity(Path(model.path))]


def manifest_identity(folder: Path) -> str:
    """Return a hash of a model's manifest, or of no bytes if it cannot be read: loading the model raises the error."""
    try:
        manifest = (folder / "manifest.json").read_bytes()
    except OSError:
        manifest = b""
    return hashlib.sha256(manifest).hexdigest()
