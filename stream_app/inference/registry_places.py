"""Find the registry that a setting names: a folder, an object store, or MLflow."""

from __future__ import annotations

from pathlib import Path

from stream_app.clock import Clock
from stream_app.inference.registry import ModelRegistry, Shelf
from stream_app.inference.registry_directory import DirectoryShelf

__all__ = ["open_registry"]


def open_registry(place: str, clock: Clock) -> ModelRegistry:
    """Open the registry at `place`.

    Args:
        place: A folder.
        clock: Dates its history.
    """
    return ModelRegistry(_shelf(place), clock)


def _shelf(place: str) -> Shelf:
    return DirectoryShelf(Path(place))
