"""A registry in an object store that fsspec reaches (`s3://`, `gs://`, `az://`, ...), with the layout and names of the folder.

An object is written whole or not at all. The manifest of an artefact is uploaded last, so readers never see a part of an
artefact. A writer of the stages holds `stages.lock`, an object that is created exclusively. A writer that dies leaves the lock
behind. Nobody can tell a dead writer from a slow one, so no other writer takes the lock over: the error names the holder and says
how to delete the lock. Workers only read, and fetch each artefact once.
"""

from __future__ import annotations

import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from model.contract import MANIFEST_FILE, Manifest
from stream_app.errors import ConfigError, ContractError
from stream_app.inference.registry.directory import settle

_STAGES: Final = "stages.json"
_LOCK: Final = "stages.lock"
_WORKERS: Final = "workers"
_LOCK_WAIT_S: Final = 10.0  # a change takes well under a second
_LOCK_POLL_S: Final = 0.2


class ObjectStoreBackend:
    """See `stream_app.inference.registry.model_registry.RegistryBackend`.

    Args:
        url: Bucket and path, in fsspec's form.
        cache: Local folder for fetched artefacts.

    Raises:
        ConfigError: fsspec, or its package for this scheme, is not installed.
    """

    def __init__(self, url: str, cache: Path) -> None:
        try:
            from fsspec.core import url_to_fs

            opened: tuple[Any, str] = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"model.registry is {url}: {error}; install `millrace[objects]` and fsspec's package for that scheme (s3fs, "
                "gcsfs, adlfs)"
            ) from error
        self._files, self._root = opened
        self._url = url
        self._cache = cache

    @property
    def place(self) -> str:
        """Location, for messages."""
        return self._url

    def versions(self) -> list[str]:
        """Return the versions of all artefacts."""
        return [path.split("/")[-2] for path in self._manifests()]

    def folder(self, version: str) -> Path:
        """Fetch an artefact, once."""
        target = self._cache / version
        if (target / MANIFEST_FILE).exists():
            return target
        coming = self._cache / f".coming-{uuid.uuid4().hex}"
        coming.mkdir(parents=True)
        try:
            remote = self._remote(version)
            for path in self._files.find(remote):
                local = coming / path.removeprefix(f"{remote}/")
                local.parent.mkdir(parents=True, exist_ok=True)
                local.write_bytes(self._files.cat_file(path))
            settle(coming, target)
        finally:
            shutil.rmtree(coming, ignore_errors=True)
        return target

    def add(self, folder: Path, manifest: Manifest) -> None:
        """Upload an artefact, its manifest last."""
        target = f"{self._root}/{manifest.name}/{manifest.version}"
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in sorted(paths, key=lambda path: path == folder / MANIFEST_FILE):
            remote = f"{target}/{path.relative_to(folder).as_posix()}"
            self._files.makedirs(remote.rsplit("/", 1)[0], exist_ok=True)
            self._files.pipe_file(remote, path.read_bytes())

    def remove(self, version: str) -> None:
        """Delete an artefact, its manifest first."""
        remote = self._remote(version)
        self._files.rm_file(f"{remote}/{MANIFEST_FILE}")
        self._files.rm(remote, recursive=True)
        shutil.rmtree(self._cache / version, ignore_errors=True)

    def read_stages(self) -> bytes | None:
        """Return the stages document, if there is one."""
        return self._read(f"{self._root}/{_STAGES}")

    def change_stages(self, change: Callable[[bytes | None], bytes | None]) -> None:
        """Replace the document under the lock."""
        with self._locked():
            document = change(self.read_stages())
            if document is not None:
                self._files.pipe_file(f"{self._root}/{_STAGES}", document)

    def write_status(self, worker: str, status: bytes) -> None:
        """Replace a worker's status."""
        self._files.makedirs(f"{self._root}/{_WORKERS}", exist_ok=True)
        self._files.pipe_file(f"{self._root}/{_WORKERS}/{worker}.json", status)

    def statuses(self) -> list[bytes]:
        """Return every worker's status."""
        contents = (self._read(path) for path in self._listed(f"{self._root}/{_WORKERS}"))
        return [status for status in contents if status is not None]

    def forget_status(self, worker: str) -> None:
        """Delete a worker's status."""
        path = f"{self._root}/{_WORKERS}/{worker}.json"
        if self._read(path) is not None:
            self._files.rm_file(path)

    def _read(self, path: str) -> bytes | None:
        self._files.invalidate_cache()  # fsspec caches listings, also those that other writers have changed since
        try:
            content: bytes = self._files.cat_file(path)
        except FileNotFoundError:
            return None
        return content

    def _listed(self, folder: str) -> list[str]:
        self._files.invalidate_cache()
        try:
            paths: list[str] = self._files.find(folder)
        except FileNotFoundError:
            return []
        return paths

    def _manifests(self) -> Iterator[str]:
        depth = self._root.count("/") + 3
        for path in self._listed(self._root):
            if path.endswith(f"/{MANIFEST_FILE}") and path.count("/") == depth:
                yield path

    def _remote(self, version: str) -> str:
        for path in self._manifests():
            if path.split("/")[-2] == version:
                return path.removesuffix(f"/{MANIFEST_FILE}")
        raise ContractError(
            f"{self._url} has no model {version}. Operator action: put it back, or promote one that is there (`millrace models "
            "list`)."
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold `stages.lock` while the block runs.

        Raises:
            ContractError: Another writer has held the lock for too long.
        """
        lock = f"{self._root}/{_LOCK}"
        self._files.makedirs(self._root, exist_ok=True)
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                self._files.pipe_file(lock, socket.gethostname().encode(), mode="create")
                break
            except FileExistsError:
                pass
            if time.monotonic() >= deadline:
                holder = (self._read(lock) or b"").decode() or "one writer after another"
                raise ContractError(
                    f"the object {self._url}/{_LOCK} has been held by {holder} for {_LOCK_WAIT_S:.0f} s. Operator action: if "
                    "nobody there changes the stages now, delete it: its writer has died."
                )
            time.sleep(_LOCK_POLL_S)
        try:
            yield
        finally:
            self._files.rm_file(lock)
