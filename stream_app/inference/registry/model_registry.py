"""The model registry: artefacts by version, and the stages that say which of them serve. Bytes live in a `RegistryBackend`.

The *stages* are one small document: champion, previous, challenger with its percentage of users, shadow, and the history of
changes with author, time and reason. The document is replaced as a whole under the backend's lock, so no reader sees half a
change. Workers poll it, and each writes a status: what it serves, and what it refused
(`stream_app.inference.registry.swap_follower`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from model.contract import ITEMS_FILE, MODEL_FILE, Manifest
from stream_app.clock import Clock
from stream_app.errors import ContractError
from stream_app.inference.artifact import load_manifest, verified_bytes
from stream_app.inference.registry.document import StageAssignment, StageChange, Stages, WorkerStatus

_MOST_HISTORY: Final = 1_000  # changes; bounds the document, which workers read every two seconds, to about 300 kB
_WHOLE: Final = 100.0  # percent


class RegistryBackend(Protocol):
    """Storage of a registry. Blocking; adapters: `directory.DirectoryBackend`, `object_store.ObjectStoreBackend`."""

    @property
    def place(self) -> str:
        """Location, for messages."""
        ...

    def versions(self) -> list[str]:
        """Return the versions of all artefacts, unordered."""
        ...

    def folder(self, version: str) -> Path:
        """Return a local folder that holds the artefact; a remote backend fetches it once."""
        ...

    def add(self, folder: Path, manifest: Manifest) -> None:
        """Copy an artefact in under its manifest's version, whole or not at all."""
        ...

    def remove(self, version: str) -> None:
        """Delete an artefact."""
        ...

    def read_stages(self) -> bytes | None:
        """Return the stages document, None where there is none yet."""
        ...

    def change_stages(self, change: Callable[[bytes | None], bytes | None]) -> None:
        """Replace the document by the result of `change`, under a lock against other writers; None leaves it unchanged."""
        ...

    def write_status(self, worker: str, status: bytes) -> None:
        """Replace the status of a worker."""
        ...

    def statuses(self) -> list[bytes]:
        """Return the status of every worker."""
        ...

    def forget_status(self, worker: str) -> None:
        """Delete the status of a worker."""
        ...


class ModelRegistry:
    """Rules over a backend: which change of the stages is allowed."""

    def __init__(self, backend: RegistryBackend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock

    @property
    def place(self) -> str:
        """Location, for messages."""
        return self._backend.place

    # --- artefacts -------------------------------------------------------------------------------------------------------

    def versions(self) -> list[str]:
        """Return the versions of all artefacts, sorted."""
        return sorted(self._backend.versions())

    def resolve(self, named: str) -> str:
        """Resolve a version, a unique prefix of one, or the name of a stage to a version.

        Raises:
            ContractError: No version matches, or several do.
        """
        stages = self.stages().line_up
        if named in ("champion", "previous", "challenger", "shadow"):
            version: str = getattr(stages, named)
            if not version:
                raise ContractError(
                    f"{self.place} has no {named}. Operator action: name a version; `millrace models list` shows them."
                )
            return version
        versions = self.versions()
        matches = [named] if named in versions else [version for version in versions if version.startswith(named)]
        if len(matches) != 1:
            raise ContractError(
                f"{named!r} names {len(matches)} models of {self.place}: {matches or versions}. Operator action: name one of "
                "them in full, or put the artefact in with `millrace models add FOLDER`."
            )
        return matches[0]

    def folder(self, version: str) -> Path:
        """Return a local folder that holds the artefact of an existing version."""
        return self._backend.folder(version)

    def add(self, folder: Path) -> str:
        """Copy an artefact in and return its version, after comparing every file with its checksum.

        Raises:
            ContractError: The artefact is damaged, or its version exists already.
        """
        manifest = load_manifest(folder)
        for name in {MODEL_FILE, ITEMS_FILE, *manifest.sha256}:
            verified_bytes(folder, manifest, name)
        if manifest.version in self._backend.versions():
            raise ContractError(
                f"{self.place} has {manifest.version} already; an artefact is never changed. Operator action: none, if it is the "
                "same; to replace a damaged copy, remove it first: `millrace models remove`."
            )
        self._backend.add(folder, manifest)
        return manifest.version

    def remove(self, version: str) -> None:
        """Delete an artefact that is on no stage.

        Raises:
            ContractError: The artefact is on a stage.
        """

        def delete(document: bytes | None) -> None:
            used = self._decoded(document).line_up
            if version in used.versions():
                raise ContractError(
                    f"{version} is in use in {self.place} ({_described(used)}). Operator action: promote another one, or take it "
                    "off its stage, first."
                )
            self._backend.remove(version)

        self._backend.change_stages(delete)  # under the lock: nobody puts it on a stage meanwhile

    # --- stages ----------------------------------------------------------------------------------------------------------

    def stages(self) -> Stages:
        """Return the current stages.

        Raises:
            ContractError: The document is damaged.
        """
        return self._decoded(self._backend.read_stages())

    def promote(self, version: str, *, by: str, why: str, forced: bool = False) -> Stages:
        """Make a version the champion, `forced` without the workers' gate; the old champion becomes the previous one.

        Raises:
            ContractError: The version is the champion already, or does not exist.
        """

        def change(now: StageAssignment) -> StageAssignment:
            if now.champion == version:
                raise ContractError(f"{version} is the champion of {self.place} already. Operator action: none.")
            self._require(version)
            rest = _without(now, version)
            return replace(rest, champion=version, previous=now.champion or rest.previous)

        return self._change(f"promote {version}", change, by, why, forced=forced)

    def rollback(self, *, by: str, why: str) -> Stages:
        """Swap champion and previous model, without the gate.

        Raises:
            ContractError: There is no previous model.
        """

        def change(now: StageAssignment) -> StageAssignment:
            if not now.previous:
                raise ContractError(
                    f"{self.place} has no previous model to go back to. Operator action: name one: `millrace models promote`."
                )
            return replace(_without(now, now.previous), champion=now.previous, previous=now.champion)

        return self._change("rollback", change, by, why, forced=True)

    def withdraw(self, revision: int, *, by: str, why: str) -> Stages:
        """Undo the newest change if it is still `revision`.

        Raises:
            ContractError: The stages have changed since.
        """

        def undone(stages: Stages) -> StageAssignment:
            if stages.revision != revision:
                raise ContractError(
                    f"change {revision} of {self.place} cannot be withdrawn: change {stages.revision} came after it. Operator "
                    "action: look at `millrace models list` and promote the model that shall serve."
                )
            return stages.history[-2].line_up if len(stages.history) > 1 else StageAssignment()

        return self._write(f"withdraw change {revision}", undone, by, why, forced=True)

    def shadow(self, version: str, *, by: str, why: str) -> Stages:
        """Make a version the shadow; "" ends shadowing.

        Raises:
            ContractError: The version does not exist.
        """

        def change(now: StageAssignment) -> StageAssignment:
            self._require(version)
            return replace(now, shadow=version)

        return self._change(f"shadow {version or 'none'}", change, by, why)

    def challenge(self, version: str, percent: float, *, by: str, why: str) -> Stages:
        """Make a version the challenger for `percent` of the users; "" ends the challenge.

        Raises:
            ContractError: The percentage is not within (0, 100), or the version is the champion or does not exist.
        """
        if version and not 0 < percent < _WHOLE:
            raise ContractError(
                f"a challenger answers more than 0 % and less than 100 % of the users, not {percent:g} %. Operator action: give "
                "such a percentage; to answer all users with it, promote it."
            )

        def change(now: StageAssignment) -> StageAssignment:
            if version and version == now.champion:
                raise ContractError(
                    f"{version} is the champion of {self.place}; it cannot challenge itself. Operator action: none."
                )
            self._require(version)
            return replace(now, challenger=version, percent=percent if version else 0.0)

        what = f"challenge {version} {percent:g} %" if version else "challenge none"
        return self._change(what, change, by, why)

    def _require(self, version: str) -> None:
        """Refuse a missing version; call it under the lock, since a version may be removed before."""
        if version and version not in self._backend.versions():
            raise ContractError(
                f"{self.place} holds no model {version}, nothing was changed. Operator action: put it in with `millrace models "
                "add FOLDER`, or name one that is there (`millrace models list`)."
            )

    def _change(
        self, what: str, change: Callable[[StageAssignment], StageAssignment], by: str, why: str, *, forced: bool = False
    ) -> Stages:
        return self._write(what, lambda stages: change(stages.line_up), by, why, forced=forced)

    def _write(self, what: str, line_up: Callable[[Stages], StageAssignment], by: str, why: str, *, forced: bool) -> Stages:
        written = Stages()

        def rewrite(document: bytes | None) -> bytes:
            nonlocal written
            stages = self._decoded(document)
            entry = StageChange(
                revision=stages.revision + 1,
                what=what,
                by=by,
                at_ms=self._clock.now_ms(),
                why=why,
                forced=forced,
                line_up=line_up(stages),
            )
            written = Stages(history=[*stages.history, entry][-_MOST_HISTORY:])
            return msgspec.json.format(msgspec.json.encode(written), indent=1)

        self._backend.change_stages(rewrite)
        return written

    def _decoded(self, document: bytes | None) -> Stages:
        if document is None:
            return Stages()
        try:
            return msgspec.json.decode(document, type=Stages)
        except msgspec.MsgspecError as error:
            raise ContractError(
                f"the stages of {self.place} are no valid document: {error}. Operator action: restore it from a backup; without "
                "one delete it and promote the model that shall serve."
            ) from error

    # --- workers ---------------------------------------------------------------------------------------------------------

    def report(self, status: WorkerStatus) -> None:
        """Write a worker's status."""
        self._backend.write_status(status.worker, msgspec.json.encode(status))

    def leave(self, worker: str) -> None:
        """Delete the status of a worker that ends."""
        self._backend.forget_status(worker)

    def workers(self) -> list[WorkerStatus]:
        """Return the status of every worker, sorted by name; unreadable ones are left out."""
        workers = []
        for status in self._backend.statuses():
            try:
                workers.append(msgspec.json.decode(status, type=WorkerStatus))
            except msgspec.MsgspecError:  # written by another release
                continue
        return sorted(workers, key=lambda status: status.worker)


def _without(line_up: StageAssignment, version: str) -> StageAssignment:
    """Remove a version from all stages but the champion's."""
    if line_up.challenger == version:
        line_up = replace(line_up, challenger="", percent=0.0)
    if line_up.shadow == version:
        line_up = replace(line_up, shadow="")
    return replace(line_up, previous="") if line_up.previous == version else line_up


def _described(line_up: StageAssignment) -> str:
    return ", ".join(f"{stage} {version}" for stage, version in msgspec.structs.asdict(line_up).items() if version)
