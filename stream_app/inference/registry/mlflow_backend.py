"""A registry in MLflow: one registered model, each artefact a version of it, the stages a tag.

MLflow numbers versions itself; ours is a tag of each (`millrace.version`). Champion, previous, challenger and shadow are aliases
too, so that its own pages show them; what counts is the tag `millrace.stages`. MLflow has neither a lock nor a write with a
condition. But of one name there is only one registered model: who changes the stages has made one called `<name>-lock`.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from model.contract import MANIFEST_FILE, Manifest
from stream_app.errors import ConfigError, ContractError
from stream_app.inference.registry.directory import settle
from stream_app.inference.registry.lock import held

__all__ = ["MlflowBackend"]

_VERSION: Final = "millrace.version"
_STAGES: Final = "millrace.stages"
_WORKER: Final = "millrace.worker."
_ARTEFACT: Final = "artefact"  # folder below the run's
_MOST_BYTES: Final = 100_000  # of a tag
_LOCK: Final = "-lock"  # behind the name, of a registered model that is there while somebody changes the stages
_HOLDER: Final = "millrace.holder"
_ALIASES: Final = ("champion", "previous", "challenger", "shadow")


class MlflowBackend:
    """See `stream_app.inference.registry.model_registry.Shelf`.

    Args:
        uri: Tracking and registry URI: a server's address, or `sqlite:///...`.
        name: Of the registered model, and of the experiment that holds its artefacts.
        cache: Local folder for fetched artefacts.

    Raises:
        ConfigError: MLflow is not installed.
    """

    def __init__(self, uri: str, name: str, cache: Path) -> None:
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError as error:
            raise ConfigError(f"model.registry is in MLflow: {error}; install `millrace[mlflow]`") from error
        self._client: Any = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._error: type[Exception] = MlflowException
        self._uri = uri
        self._name = name
        self._cache = cache

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"mlflow+{self._uri}#{self._name}"

    def versions(self) -> list[str]:
        """Return the versions of all artefacts."""
        return list(self._numbers())

    def folder(self, version: str) -> Path:
        """Fetch an artefact, once."""
        target = self._cache / version
        if (target / MANIFEST_FILE).exists():
            return target
        found = self._found(version)
        coming = self._cache / f".coming-{uuid.uuid4().hex}"
        coming.mkdir(parents=True)
        try:
            fetched = self._asked(lambda: self._client.download_artifacts(found.run_id, _ARTEFACT, str(coming)))
            settle(Path(fetched), target)
        finally:
            shutil.rmtree(coming, ignore_errors=True)
        return target

    def add(self, folder: Path, manifest: Manifest) -> None:
        """Log an artefact in a run of its own, then make it a version."""

        def log_it() -> None:
            self._make_model()
            run = self._client.create_run(self._experiment(), run_name=manifest.version)
            self._client.log_artifacts(run.info.run_id, str(folder), _ARTEFACT)
            for task, metrics in manifest.metrics.items():
                for metric, value in metrics.items():
                    self._client.log_metric(run.info.run_id, f"{task}.{metric}", value)
            self._client.set_terminated(run.info.run_id)
            source = f"{run.info.artifact_uri}/{_ARTEFACT}"
            self._client.create_model_version(self._name, source, run.info.run_id, tags={_VERSION: manifest.version})

        self._asked(log_it)

    def remove(self, version: str) -> None:
        """Delete a version; its run stays in MLflow's history."""
        number = self._found(version).version
        self._asked(lambda: self._client.delete_model_version(self._name, number))
        shutil.rmtree(self._cache / version, ignore_errors=True)

    def read_stages(self) -> bytes | None:
        """Return the document, if there is one."""
        found = self._tags(self._name).get(_STAGES)
        return found.encode() if found is not None else None

    def change_stages(self, change: Callable[[bytes | None], bytes | None]) -> None:
        """Replace the document under the lock."""
        with held(
            f"the registered model {self._name}{_LOCK} of {self._uri}", self._make_lock, self._lock_maker, self._delete_lock
        ):
            document = change(self.read_stages())
            if document is None:
                return
            told = msgspec.json.decode(document)
            while len(msgspec.json.encode(told)) > _MOST_BYTES:
                told["history"].pop(0)
            text = msgspec.json.encode(told).decode()
            self._asked(lambda: self._write_stages(text, told["history"][-1]["line_up"]))

    def _make_lock(self, holder: str) -> bool:
        try:
            self._client.create_registered_model(self._name + _LOCK, tags={_HOLDER: holder})
        except self._error as error:
            # MLflow looks at the one that is there to say so, and does not find it where it was deleted meanwhile.
            if getattr(error, "error_code", "") in {"RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"}:
                return False
            raise OSError(f"MLflow at {self._uri}: {error}") from error
        return True

    def _lock_maker(self) -> str:
        return self._tags(self._name + _LOCK).get(_HOLDER, "")

    def _delete_lock(self) -> None:
        self._asked(lambda: self._client.delete_registered_model(self._name + _LOCK))

    def write_status(self, worker: str, status: bytes) -> None:
        """Replace a worker's status."""
        self._asked(lambda: self._client.set_registered_model_tag(self._name, _WORKER + worker, status.decode()))

    def statuses(self) -> list[bytes]:
        """Return every worker's status."""
        return [value.encode() for name, value in self._tags(self._name).items() if name.startswith(_WORKER)]

    def forget_status(self, worker: str) -> None:
        """Delete a worker's status."""
        if _WORKER + worker in self._tags(self._name):
            self._asked(lambda: self._client.delete_registered_model_tag(self._name, _WORKER + worker))

    def _write_stages(self, text: str, line_up: dict[str, Any]) -> None:
        self._make_model()
        self._client.set_registered_model_tag(self._name, _STAGES, text)
        numbers = self._numbers()
        for alias in _ALIASES:
            number = numbers.get(line_up.get(alias, ""))
            if number is not None:
                self._client.set_registered_model_alias(self._name, alias, number)
            else:
                self._client.delete_registered_model_alias(self._name, alias)

    def _numbers(self) -> dict[str, str]:
        """Our versions and MLflow's numbers of them."""
        found = self._asked(lambda: self._client.search_model_versions(f"name='{self._name}'"))
        return {entry.tags[_VERSION]: entry.version for entry in found if _VERSION in entry.tags}

    def _found(self, version: str) -> Any:  # noqa: ANN401 (MLflow's ModelVersion)
        number = self._numbers().get(version)
        if number is None:
            raise ContractError(
                f"{self.place} has no model {version}. Operator action: put it back, or promote one that is there (`millrace "
                "models list`)."
            )
        return self._asked(lambda: self._client.get_model_version(self._name, number))

    def _tags(self, model: str) -> dict[str, str]:
        try:
            tags: dict[str, str] = self._client.get_registered_model(model).tags
        except self._error as error:
            if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise OSError(f"MLflow at {self._uri}: {error}") from error
        return tags

    def _make_model(self) -> None:
        try:
            self._client.get_registered_model(self._name)
        except self._error:
            self._client.create_registered_model(self._name)

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._name)
        made: str = found.experiment_id if found is not None else self._client.create_experiment(self._name)
        return made

    def _asked(self, what: Callable[[], Any]) -> Any:  # noqa: ANN401 (MLflow's answers)
        """Ask MLflow; its errors are those of a disk that is away."""
        try:
            return what()
        except self._error as error:
            raise OSError(f"MLflow at {self._uri}: {error}") from error
