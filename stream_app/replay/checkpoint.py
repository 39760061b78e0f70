"""How far a replay is: its position, its state and where its sinks stand, written together so that all of it counts or none.

Two files, the state first; the checkpoint names it and is replaced atomically. A replay that was killed goes on from the last
one, and its files are in the end the same bytes as those of one that was not.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from stream_app.codec.outbox import decode_outbox
from stream_app.errors import ConfigError
from stream_app.replay.canonical import CanonicalReplay
from stream_app.replay.problems import Problems
from stream_app.replay.state_file import EntityFrame, GroupHeader, StateHeader, read_header, write_state

__all__ = ["Checkpoint", "CheckpointFolder", "replay_identity"]


class Checkpoint(msgspec.Struct, kw_only=True):
    """A point that a replay can go on from.

    Attributes:
        identity: Of the log, the settings and the sinks: another replay does not go on from here.
        state: Name of the state's file.
        position: Records done.
        events: Events among them.
        sinks: Where each sink stands.
        counts: What the summary has counted so far.
        problems: Of the records done (`Problems.kept`); those of reading are met again.
    """

    identity: str
    state: str
    position: int
    events: int
    sinks: dict[str, dict[str, int]]
    counts: dict[str, Any]
    problems: list[tuple[str, str, int, list[str]]] = []


class _Kept(msgspec.Struct):
    """Answers that may be asked for again: number, time and payload of each batch."""

    kept: list[tuple[int, int, bytes]]


def replay_identity(*parts: str) -> str:
    """Return a hash of what makes it this replay."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


class CheckpointFolder:
    """Where a replay's checkpoints are."""

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder, self._identity = folder, identity
        self._file = folder / "checkpoint.json"

    def load(self) -> Checkpoint | None:
        """Return the last checkpoint; None if there is none.

        Raises:
            ConfigError: It is of another replay, or cannot be read.
        """
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=Checkpoint)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as err:
            raise ConfigError(f"the checkpoint {self._file} cannot be read ({err}). Use --restart to begin anew") from err
        if found.identity != self._identity:
            raise ConfigError(
                f"{self._folder} holds the checkpoint of another replay, stopped after {found.position:,} records: its log, "
                "settings or options differ. Use --restart to begin anew, or another --out"
            )
        return found

    def restore(self, found: Checkpoint, replay: CanonicalReplay) -> None:
        """Bring a fresh replay to where the checkpoint is."""
        path = self._folder / found.state
        replay.load(path)
        kept = msgspec.json.decode(read_header(path).replay, type=_Kept)
        for first, newest_ms, payload in kept.kept:
            replay.kept.add(first, newest_ms, decode_outbox(payload))
        replay.position, replay.events = found.position, found.events

    def save(self, replay: CanonicalReplay, sinks: dict[str, dict[str, int]], counts: dict[str, Any], problems: Problems) -> None:
        """Write one; what the sinks were given must be safe already."""
        self._folder.mkdir(parents=True, exist_ok=True)
        state = f"state-{replay.position}.bin"
        header = StateHeader(
            catalogue_hash=replay.engine.catalogue_hash,
            layouts=replay.engine.layout_records(),
            groups={0: GroupHeader(replay.events, {})},
            replay=msgspec.json.encode(_Kept(replay.kept.kept())),
        )
        frames = (
            EntityFrame.of(0, kind, keys, blobs) for kind in replay.state.entities() for keys, blobs in replay.state.packed(kind)
        )
        write_state(self._folder / state, header, frames)
        point = Checkpoint(
            identity=self._identity,
            state=state,
            position=replay.position,
            events=replay.events,
            sinks=sinks,
            counts=counts,
            problems=problems.kept(),
        )
        fresh = self._file.with_suffix(".tmp")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(point))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file)
        for path in self._folder.glob("state-*.bin"):
            if path.name != state:
                path.unlink()

    def remove(self) -> None:
        """Forget it: the replay is complete, or begins anew."""
        for path in (self._file, *self._folder.glob("state-*.bin")):
            path.unlink(missing_ok=True)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()
