"""Open the registry that a setting names: a folder or an object store."""

from __future__ import annotations

from pathlib import Path

from stream_app.clock import Clock
from stream_app.errors import ConfigError
from stream_app.inference.registry.directory import DirectoryBackend
from stream_app.inference.registry.model_registry import ModelRegistry
from stream_app.inference.registry.object_store import ObjectStoreBackend
from stream_app.work_folder import work_folder


def open_registry(place: str, clock: Clock, folder: str = "") -> ModelRegistry:
    """Open the registry at `place`, without reading it.

    Args:
        place: A folder, or `<scheme>://...` of an object store.
        clock: Dates the history of changes.
        folder: The setting `worker.folder`; artefacts that an object store delivers are kept in its folder `models`.

    Raises:
        ConfigError: The scheme is unknown, its package is not installed, or `place` is in MLflow.
    """
    if place.startswith("mlflow+"):
        raise ConfigError(
            f"model.registry is {place!r}; MLflow is a source of artefacts, not a registry. Set model.registry to a folder or an "
            "object store, and copy the model into it: millrace models add 'mlflow:<tracking URI>#<model name>@<alias>'"
        )
    if "://" not in place:
        return ModelRegistry(DirectoryBackend(Path(place)), clock)
    return ModelRegistry(ObjectStoreBackend(place, work_folder(folder) / "models"), clock)


def model_folder(path: str, registry: str, clock: Clock, folder: str = "") -> Path:
    """Return the folder of the serving artefact: the champion of `registry`, or `path` where `registry` is empty.

    Raises:
        ConfigError: See `open_registry`.
        ContractError: The registry has no champion, or the champion's artefact is missing.
    """
    if not registry:
        return Path(path)
    opened = open_registry(registry, clock, folder)
    return opened.folder(opened.resolve("champion"))
