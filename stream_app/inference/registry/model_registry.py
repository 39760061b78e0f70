"""Which models there are, and which of them serves: the registry's rules over whatever keeps its bytes (`RegistryBackend`).

A registry holds whole artefacts under their versions, and one small document, the *stages*: champion, previous, challenger with
its percentage of users, shadow, and the history of who changed what, when and why. It is changed as a whole under the shelf's
lock, so that no reader sees half a change. Workers look at it and say in a status of their own what they serve and what they
refused (`stream_app.inference.registry.swap_follower`).
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

__all__ = ["ModelRegistry", "RegistryBackend"]

_MOST_HISTORY: Final = 1_000  # changes; the document is read every other second, so it stays below some 300 kB
_WHOLE: Final = 100.0  # percent


class RegistryBackend(Protocol):
    """What keeps a registry's bytes. Blocking; adapters: registry_directory, registry_objects, registry_mlflow."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        ...

    def versions(self) -> list[str]:
        """Return the versions of all artefacts, in no order."""
        ...

    def folder(self, version: str) -> Path:
        """Return a local folder that holds the artefact; a remote shelf fetches it, once."""
        ...

    def add(self, folder: Path, manifest: Manifest) -> None:
        """Copy an artefact in under its manifest's version; it is there whole or not at all."""
        ...

    def remove(self, version: str) -> None:
        """Delete an artefact."""
        ...

    def read_stages(self) -> bytes | None:
        """Return the document, None where there is none yet."""
        ...

    def change_stages(self, change: Callable[[bytes | None], bytes | None]) -> None:
        """Replace the document by what `change` makes of it, with nobody else writing in between; None leaves it."""
        ...

    def write_status(self, worker: str, status: bytes) -> None:
        """Put down what a worker says of itself, in place of what it said before."""
        ...

    def statuses(self) -> list[bytes]:
        """Return what every worker has said last."""
        ...

    def forget_status(self, worker: str) -> None:
        """Delete what a worker has said; it has ended."""
        ...


class ModelRegistry:
    """The registry's rules.

    Args:
        shelf: What keeps it.
        clock: Dates its history.
    """

    def __init__(self, shelf: RegistryBackend, clock: Clock) -> None:
        self._shelf = shelf
        self._clock = clock

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return self._shelf.place

    # --- artefacts -------------------------------------------------------------------------------------------------------

    def versions(self) -> list[str]:
        """Return the versions of all artefacts, sorted."""
        return sorted(self._shelf.versions())

    def resolve(self, named: str) -> str:
        """Return the one version that is named, or begins with what is named, or holds the stage that is named.

        Raises:
            ContractError: None does, or several do.
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
        found = [named] if named in versions else [version for version in versions if version.startswith(named)]
        if len(found) != 1:
            raise ContractError(
                f"{named!r} names {len(found)} models of {self.place}: {found or versions}. Operator action: name one of them in "
                "full, or put the artefact in with `millrace models add FOLDER`."
            )
        return found[0]

    def folder(self, version: str) -> Path:
        """Return a local folder that holds the artefact of a version that there is."""
        return self._shelf.folder(version)

    def add(self, folder: Path) -> str:
        """Copy an artefact in and return its version; every file is compared with its checksum first.

        Raises:
            ContractError: It is damaged, or the version is there already.
        """
        manifest = load_manifest(folder)
        for name in {MODEL_FILE, ITEMS_FILE, *manifest.sha256}:
            verified_bytes(folder, manifest, name)
        if manifest.version in self._shelf.versions():
            raise ContractError(
                f"{self.place} has {manifest.version} already; an artefact is never changed. Operator action: none, if it is the "
                "same; to replace a damaged copy, remove it first: `millrace models remove`."
            )
        self._shelf.add(folder, manifest)
        return manifest.version

    def remove(self, version: str) -> None:
        """Delete an artefact that serves nowhere.

        Raises:
            ContractError: It is in use.
        """

        def delete(document: bytes | None) -> None:
            used = self._decoded(document).line_up
            if version in used.versions():
                raise ContractError(
                    f"{version} is in use in {self.place} ({_said(used)}). Operator action: promote another one, or take it off "
                    "its stage, first."
                )
            self._shelf.remove(version)

        self._shelf.change_stages(delete)  # nobody puts it on a stage meanwhile

    # --- stages ----------------------------------------------------------------------------------------------------------

    def stages(self) -> Stages:
        """Return the stages as they are now.

        Raises:
            ContractError: The document is damaged.
        """
        return self._decoded(self._shelf.read_stages())

    def promote(self, version: str, *, by: str, why: str, forced: bool = False) -> Stages:
        """Make a version the champion; the champion that was becomes the previous one.

        Args:
            version: One that there is.
            by: Who decides.
            why: What for.
            forced: Workers take it without asking the gate.

        Raises:
            ContractError: It is the champion already, or there is no such version.
        """

        def change(now: StageAssignment) -> StageAssignment:
            if now.champion == version:
                raise ContractError(f"{version} is the champion of {self.place} already. Operator action: none.")
            self._require(version)
            kept = _without(now, version)
            return replace(kept, champion=version, previous=now.champion or kept.previous)

        return self._change(f"promote {version}", change, by, why, forced=forced)

    def rollback(self, *, by: str, why: str) -> Stages:
        """Make the previous model the champion again, whatever the gate says; the two change places.

        Raises:
            ContractError: There is no previous one.
        """

        def change(now: StageAssignment) -> StageAssignment:
            if not now.previous:
                raise ContractError(
                    f"{self.place} has no previous model to go back to. Operator action: name one: `millrace models promote`."
                )
            return replace(_without(now, now.previous), champion=now.previous, previous=now.champion)

        return self._change("rollback", change, by, why, forced=True)

    def withdraw(self, revision: int, *, by: str, why: str) -> Stages:
        """Undo the newest change, if it is still `revision`: who served before it serves again.

        Raises:
            ContractError: Somebody has changed the stages since.
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
        """Let a version score everything beside the champion, or none ("").

        Raises:
            ContractError: There is no such version.
        """

        def change(now: StageAssignment) -> StageAssignment:
            self._require(version)
            return replace(now, shadow=version)

        return self._change(f"shadow {version or 'none'}", change, by, why)

    def challenge(self, version: str, percent: float, *, by: str, why: str) -> Stages:
        """Let a version answer `percent` of the users, or none ("" and 0).

        Raises:
            ContractError: The percentage is not within (0, 100), it is the champion itself, or there is no such version.
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
        """Refuse a version that is not there; asked under the lock, since it may be removed until then."""
        if version and version not in self._shelf.versions():
            raise ContractError(
                f"{self.place} holds no model {version}, nothing was changed. Operator action: put it in with `millrace models "
                "add FOLDER`, or name one that is there (`millrace models list`)."
            )

    def _change(
        self, what: str, change: Callable[[StageAssignment], StageAssignment], by: str, why: str, *, forced: bool = False
    ) -> Stages:
        return self._write(what, lambda stages: change(stages.line_up), by, why, forced=forced)

    def _write(self, what: str, line_up: Callable[[Stages], StageAssignment], by: str, why: str, *, forced: bool) -> Stages:
        made = Stages()

        def rewrite(document: bytes | None) -> bytes:
            nonlocal made
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
            made = Stages(history=[*stages.history, entry][-_MOST_HISTORY:])
            return msgspec.json.format(msgspec.json.encode(made), indent=1)

        self._shelf.change_stages(rewrite)
        return made

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
        """Put down what a worker says of itself."""
        self._shelf.write_status(status.worker, msgspec.json.encode(status))

    def leave(self, worker: str) -> None:
        """Forget a worker that ends."""
        self._shelf.forget_status(worker)

    def workers(self) -> list[WorkerStatus]:
        """Return what the workers have said last, by name; what is no status is left out."""
        found = []
        for status in self._shelf.statuses():
            try:
                found.append(msgspec.json.decode(status, type=WorkerStatus))
            except msgspec.MsgspecError:  # of another release
                continue
        return sorted(found, key=lambda status: status.worker)


def _without(line_up: StageAssignment, version: str) -> StageAssignment:
    """Take a version off the stages beside the champion's."""
    if line_up.challenger == version:
        line_up = replace(line_up, challenger="", percent=0.0)
    if line_up.shadow == version:
        line_up = replace(line_up, shadow="")
    return replace(line_up, previous="") if line_up.previous == version else line_up


def _said(line_up: StageAssignment) -> str:
    return ", ".join(f"{stage} {version}" for stage, version in msgspec.structs.asdict(line_up).items() if version)
