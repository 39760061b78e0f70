"""A registry in an object store that fsspec reaches (`s3://`, `gs://`, `az://`, ...): the layout of the folder, the same names.

An object is written whole or not at all. Of an artefact the manifest comes last, so one that is half there is not seen. Who
changes the stages holds `stages.lock`, an object that can be made only once; workers only read, and fetch each artefact once.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from model.contract import MANIFEST_FILE, Manifest
from stream_app.errors import ConfigError, ContractError
from stream_app.inference.registry.directory import settle
from stream_app.inference.registry.lock import held

__all__ = ["ObjectStoreBackend"]

_STAGES: Final = "stages.json"
_LOCK: Final = "stages.lock"
_WORKERS: Final = "workers"


class ObjectStoreBackend:
    """See `stream_app.inference.registry.model_registry.Shelf`.

    Args:
        url: Bucket and path, as fsspec takes them.
        cache: Local folder for fetched artefacts.

    Raises:
        ConfigError: fsspec, or its part for this scheme, is not installed.
    """

    def __init__(self, url: str, cache: Path) -> None:
        try:
            from fsspec.core import url_to_fs

            found: tuple[Any, str] = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"model.registry is {url}: {error}; install `millrace[objects]` and fsspec's package for that scheme (s3fs, "
                "gcsfs, adlfs)"
            ) from error
        self._files, self._root = found
        self._url = url
        self._cache = cache

    @property
    def place(self) -> str:
        """Where it is, for people."""
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
        """Return the document, if there is one."""
        return self._read(f"{self._root}/{_STAGES}")

    def change_stages(self, change: Callable[[bytes | None], bytes | None]) -> None:
        """Replace the document under the lock."""
        with held(f"the object {self._url}/{_LOCK}", self._make_lock, self._lock_maker, self._delete_lock):
            document = change(self.read_stages())
            if document is not None:
                self._files.pipe_file(f"{self._root}/{_STAGES}", document)

    def write_status(self, worker: str, status: bytes) -> None:
        """Replace a worker's status."""
        self._files.makedirs(f"{self._root}/{_WORKERS}", exist_ok=True)
        self._files.pipe_file(f"{self._root}/{_WORKERS}/{worker}.json", status)

    def statuses(self) -> list[bytes]:
        """Return every worker's status."""
        found = (self._read(path) for path in self._listed(f"{self._root}/{_WORKERS}"))
        return [status for status in found if status is not None]

    def forget_status(self, worker: str) -> None:
        """Delete a worker's status."""
        path = f"{self._root}/{_WORKERS}/{worker}.json"
        if self._read(path) is not None:
            self._files.rm_file(path)

    def _read(self, path: str) -> bytes | None:
        self._files.invalidate_cache()  # fsspec keeps listings, also of what others have changed since
        try:
            content: bytes = self._files.cat_file(path)
        except FileNotFoundError:
            return None
        return content

    def _listed(self, folder: str) -> list[str]:
        self._files.invalidate_cache()
        try:
            found: list[str] = self._files.find(folder)
        except FileNotFoundError:
            return []
        return found

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

    def _make_lock(self, holder: str) -> bool:
        self._files.makedirs(self._root, exist_ok=True)
        try:
            self._files.pipe_file(f"{self._root}/{_LOCK}", holder.encode(), mode="create")
        except FileExistsError:
            return False
        return True

    def _lock_maker(self) -> str:
        return (self._read(f"{self._root}/{_LOCK}") or b"").decode()

    def _delete_lock(self) -> None:
        self._files.rm_file(f"{self._root}/{_LOCK}")
