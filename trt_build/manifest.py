"""What an artefact says of itself: hashes, versions, the command that rebuilds it.

It is written last, when all else is there: a folder without one is not an artefact.
"""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from model.contract import MANIFEST_FILE, MODEL_FILE, Manifest

__all__ = ["file_sha256", "library_versions", "read_manifest", "version_of", "write_manifest"]

_LIBRARIES: Final = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")
_VERSION_DIGITS: Final = 12


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions that decide what is built: libraries by name, and python."""
    return {name: metadata.version(name) for name in _LIBRARIES} | {"python": platform.python_version()}


def version_of(name: str, folder: Path) -> str:
    """Return an artefact's version: `<name>-<first 12 of model.onnx's sha256>`."""
    return f"{name}-{file_sha256(folder / MODEL_FILE)[:_VERSION_DIGITS]}"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` for a person to read: indented, one key a line."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    (folder / MANIFEST_FILE).write_bytes(text + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json`; raises OSError or msgspec.MsgspecError as they come: this is a build tool."""
    return msgspec.json.decode((folder / MANIFEST_FILE).read_bytes(), type=Manifest)
