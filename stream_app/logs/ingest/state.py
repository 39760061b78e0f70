"""The position of an import: a small file, written only after the sink has confirmed every row up to that position.

A killed import resumes after the last confirmed row and repeats at most the rows sent since, with the same event ids. The file is
replaced atomically, and removed when the import is complete.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from model.atomic_file import atomic_write
from stream_app.errors import ConfigError

_HEAD_BYTES = 65_536


class ImportState(msgspec.Struct, kw_only=True):
    """A position, and the counts up to it."""

    file: str
    head: str  # hash of the file's first 64 kB; an import of another file under the same name does not resume
    rows: int = 0
    by_topic: dict[str, int] = {}
    by_reason: dict[str, dict[str, Any]] = {}
    sink_position: int = 0
    refused_position: int = 0


class StateFile:
    """The state of one import, identified by file, mapping and target.

    Args:
        folder: Folder of all states; created when needed.
        path: The imported file.
        identity: Texts that identify the import (mapping, target).
    """

    def __init__(self, folder: Path, path: Path, *identity: str) -> None:
        self._source = path
        digest = hashlib.sha256("\0".join((str(path.resolve()), *identity)).encode()).hexdigest()[:12]
        self.path = folder / f"{path.name}-{digest}.json"

    def load(self) -> ImportState | None:
        """Return the state of an interrupted run, None if there was none.

        Raises:
            ConfigError: The state belongs to another file, or cannot be read.
        """
        try:
            state = msgspec.json.decode(self.path.read_bytes(), type=ImportState)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as err:
            raise ConfigError(f"the import's state {self.path} cannot be read ({err}). Use --restart to begin anew") from err
        if state.head != head_of(self._source):
            raise ConfigError(
                f"{self._source} is not the file whose import stopped after row {state.rows}: its beginning differs. "
                "Use --restart to import it from its first row"
            )
        return state

    def save(self, state: ImportState) -> None:
        """Replace the state atomically."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path) as file:
            file.write(msgspec.json.encode(state))

    def remove(self) -> None:
        """Delete the state."""
        self.path.unlink(missing_ok=True)


def head_of(path: Path) -> str:
    """Return a hash of the file's beginning."""
    with path.open("rb") as file:
        return hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()
