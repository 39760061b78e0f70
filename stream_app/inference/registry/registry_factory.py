"""Find the registry that a setting names: a folder, an object store, or MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from stream_app.clock import Clock
from stream_app.errors import ConfigError
from stream_app.inference.registry.directory import DirectoryBackend
from stream_app.inference.registry.mlflow_backend import MlflowBackend
from stream_app.inference.registry.model_registry import ModelRegistry, RegistryBackend
from stream_app.inference.registry.object_store import ObjectStoreBackend

__all__ = ["model_folder", "open_registry"]

_MLFLOW: Final = "mlflow+"
_CACHE: Final = Path(".millrace") / "models"  # what was fetched, by version


def open_registry(place: str, clock: Clock, cache: Path = _CACHE) -> ModelRegistry:
    """Open the registry at `place`; nothing is asked of it yet.

    Args:
        place: A folder; `<scheme>://...` of an object store; `mlflow+<tracking URI>#<model name>`.
        clock: Dates its history.
        cache: Local folder for artefacts of a registry that is no folder.

    Raises:
        ConfigError: It is none of these, or what it needs is not installed.
    """
    return ModelRegistry(_shelf(place, cache), clock)


def model_folder(path: str, registry: str, clock: Clock) -> Path:
    """Return the artefact that serves: the registry's champion where there is a registry, else the one at `path`.

    Raises:
        ConfigError: As `open_registry`.
        ContractError: The registry has no champion, or has lost it.
    """
    if not registry:
        return Path(path)
    opened = open_registry(registry, clock)
    return opened.folder(opened.resolve("champion"))


def _shelf(place: str, cache: Path) -> RegistryBackend:
    if place.startswith(_MLFLOW):
        uri, _, name = place.removeprefix(_MLFLOW).rpartition("#")
        if not uri or not name:
            raise ConfigError(f"model.registry is {place!r}; write it as mlflow+<tracking URI>#<model name>")
        return MlflowBackend(uri, name, cache)
    return ObjectStoreBackend(place, cache) if "://" in place else DirectoryBackend(Path(place))
