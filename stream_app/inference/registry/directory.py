"""A registry in a folder: `<name>/<version>/` for artefacts, `stages.json`, `workers/<worker>.json`.

Every file is written beside its target and then renamed, so a reader sees the old or the new content, never a part. Writers of
the stages hold a lock (flock on `.lock`); the system releases it when the process ends.
"""

from __future__ import annotations

import fcntl
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from model.atomic_file import atomic_write
from model.contract import MANIFEST_FILE, Manifest
from stream_app.errors import ContractError

_STAGES: Final = "stages.json"
_WORKERS: Final = "workers"
_LOCK: Final = ".lock"
_COMING: Final = ".coming-"  # prefix of an unfinished copy


class DirectoryBackend:
    """See `stream_app.inference.registry.model_registry.RegistryBackend`. The first write creates the folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def place(self) -> str:
        """Location, for messages."""
        return str(self._root)

    def versions(self) -> list[str]:
        """Return the versions of all artefacts."""
        return [path.parent.name for path in self._manifests()]

    def folder(self, version: str) -> Path:
        """Return the artefact's folder."""
        for manifest in self._manifests():
            if manifest.parent.name == version:
                return manifest.parent
        raise ContractError(
            f"{self._root} has no model {version}. Operator action: put its folder back, or promote one that is there "
            "(`millrace models list`)."
        )

    def add(self, folder: Path, manifest: Manifest) -> None:
        """Copy an artefact in, whole or not at all."""
        target = self._root / manifest.name / manifest.version
        coming = target.parent / f"{_COMING}{uuid.uuid4().hex}"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(folder, coming)  # includes TensorRT plans and reports
            settle(coming, target)
        finally:
            shutil.rmtree(coming, ignore_errors=True)

    def remove(self, version: str) -> None:
        """Delete an artefact, its manifest first, so that no reader sees a part of it."""
        folder = self.folder(version)
        (folder / MANIFEST_FILE).unlink()
        shutil.rmtree(folder)

    def read_stages(self) -> bytes | None:
        """Return the stages document, if there is one."""
        try:
            return (self._root / _STAGES).read_bytes()
        except FileNotFoundError:
            return None

    def change_stages(self, change: Callable[[bytes | None], bytes | None]) -> None:
        """Replace the document under the lock."""
        with self._locked():
            document = change(self.read_stages())
            if document is not None:
                _replace(self._root / _STAGES, document)

    def write_status(self, worker: str, status: bytes) -> None:
        """Replace a worker's status."""
        path = self._root / _WORKERS / f"{worker}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, status)

    def statuses(self) -> list[bytes]:
        """Return every worker's status."""
        statuses = []
        for path in sorted((self._root / _WORKERS).glob("*.json")):
            with suppress(FileNotFoundError):  # the worker ends in this moment
                statuses.append(path.read_bytes())
        return statuses

    def forget_status(self, worker: str) -> None:
        """Delete a worker's status."""
        (self._root / _WORKERS / f"{worker}.json").unlink(missing_ok=True)

    def _manifests(self) -> Iterator[Path]:
        for path in self._root.glob(f"*/*/{MANIFEST_FILE}"):
            if not path.parent.name.startswith(_COMING):
                yield path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def settle(coming: Path, target: Path) -> None:
    """Move a whole artefact to its target. An artefact that another process has put there stays; a partial one is replaced."""
    try:
        coming.rename(target)
    except OSError:
        if (target / MANIFEST_FILE).exists():
            return
        shutil.rmtree(target, ignore_errors=True)
        coming.rename(target)


def _replace(path: Path, content: bytes) -> None:
    """Replace a file, which several processes may do at once."""
    with atomic_write(path, path.with_name(f".{path.name}.{uuid.uuid4().hex}")) as file:
        file.write(content)
