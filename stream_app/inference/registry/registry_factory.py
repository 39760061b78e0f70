"""Open the registry that a setting names: a folder or an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from stream_app.clock import Clock
from stream_app.errors import ConfigError
from stream_app.inference.registry.directory import DirectoryBackend
from stream_app.inference.registry.model_registry import ModelRegistry
from stream_app.inference.registry.object_store import ObjectStoreBackend

_CACHE: Final = Path(".millrace") / "models"  # fetched artefacts, by version


def open_registry(place: str, clock: Clock, cache: Path = _CACHE) -> ModelRegistry:
    """Open the registry at `place`, without reading it.

    Args:
        place: A folder, or `<scheme>://...` of an object store.
        clock: Dates the history of changes.
        cache: Local folder for artefacts that an object store delivers.

    Raises:
        ConfigError: The scheme is unknown, its package is not installed, or `place` is in MLflow.
    """
    if place.startswith("mlflow+"):
        raise ConfigError(
            f"model.registry is {place!r}; MLflow is a source of artefacts, not a registry. Set model.registry to a folder or an "
            "object store, and copy the model into it: millrace models add 'mlflow:<tracking URI>#<model name>@<alias>'"
        )
    return ModelRegistry(ObjectStoreBackend(place, cache) if "://" in place else DirectoryBackend(Path(place)), clock)


def model_folder(path: str, registry: str, clock: Clock) -> Path:
    """Return the folder of the serving artefact: the champion of `registry`, or `path` where `registry` is empty.

    Raises:
        ConfigError: See `open_registry`.
        ContractError: The registry has no champion, or the champion's artefact is missing.
    """
    if not registry:
        return Path(path)
    opened = open_registry(registry, clock)
    return opened.folder(opened.resolve("champion"))
