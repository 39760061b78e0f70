"""Manifests: hashes up the chain, versions, and the command that rebuilds a file.

    checkpoint            weights_sha256: of its weights, whatever file they are in
      '- model.onnx       manifest.json of an artefact, or `<file>.json` beside a file of any precision (OnnxManifest)
           '- x.plan      `x.plan.json` (`model.plan.PlanManifest`)

A manifest is written last: a folder without a manifest is not an artefact.
"""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from model.contract import MANIFEST_FILE, MANIFEST_FORMAT, MODEL_FILE, Manifest, TensorSpec
from model.digest import file_sha256
from model.plan import PlanManifest, Precision
from trt_build.errors import RefusedError

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint

ONNX_FORMAT: Final = 1
_LIBRARIES: Final = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")
_HASH_DIGITS: Final = 12


class OnnxManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One ONNX file of any precision: `<file>.json` beside it."""

    format: int = ONNX_FORMAT
    sha256: str  # of the file
    source_sha256: str  # of the fp32 file that it was converted from; its own for fp32
    weights_sha256: str  # of the checkpoint's weights; "" if the ONNX file had none
    structure_sha256: str  # of all but the weights
    catalogue_hash: str  # "" if the features are not the catalogue's
    precision: Precision
    opset: int
    inputs: list[TensorSpec]
    outputs: list[str]
    kinds: dict[str, str]  # output -> kind of task: binary, classes, retrieval
    rows_sha256: str = ""  # of the rows of the calibration (int8)
    command: str
    seconds: float
    versions: dict[str, str]


_Manifest = TypeVar("_Manifest", Manifest, OnnxManifest, PlanManifest)


def sha256_of(content: bytes) -> str:
    """Return the hex SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def weights_sha256(checkpoint: Checkpoint) -> str:
    """Return a hash of a network's weights and temperatures by name: independent of the file that they come from."""
    digest = hashlib.sha256(msgspec.json.encode(sorted(checkpoint.temperatures.items())))
    for name, weight in sorted(checkpoint.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions that influence a build: libraries by name, and python."""
    return {name: metadata.version(name) for name in _LIBRARIES} | {"python": platform.python_version()}


def version_of(name: str, folder: Path) -> str:
    """Return an artefact's version: `<name>-<first 12 of model.onnx's sha256>`."""
    return f"{name}-{file_sha256(folder / MODEL_FILE)[:_HASH_DIGITS]}"


def write_manifest(path: Path, manifest: msgspec.Struct) -> None:
    """Write a manifest for a person to read: indented, one key a line."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json`, see `read_manifest_file`."""
    return read_manifest_file(folder / MANIFEST_FILE, Manifest, MANIFEST_FORMAT)


def manifest_beside(path: Path) -> Path:
    """Return the path of a single file's manifest: `model.onnx.json` beside `model.onnx`."""
    return path.with_name(f"{path.name}.json")


def read_manifest_file(path: Path, kind: type[_Manifest], known: int) -> _Manifest:
    """Read a manifest of any kind, whose newest known format is `known`.

    Raises:
        RefusedError: It is missing, damaged, or newer than this program.
    """
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as err:
        raise RefusedError(
            f"{path} cannot be read ({err.strerror}): its artefact is half copied, or of another program. "
            "Fix: copy it again with its manifest, or build it again"
        ) from err
    except msgspec.MsgspecError as err:
        raise RefusedError(
            f"{path} is damaged or none of ours ({err}). Fix: restore it from a good copy, or build it again"
        ) from err
    if manifest.format > known:
        raise RefusedError(
            f"{path} has format {manifest.format}, this program knows up to {known}. Fix: use the release that wrote it, or "
            "build it again with this one"
        )
    return manifest


def verified_bytes(path: Path, sha256: str, command: str) -> bytes:
    """Return the bytes of a file of which the manifest says `sha256`, and that `command` rebuilds.

    Raises:
        RefusedError: It is missing or damaged.
    """
    fix = f"Fix: restore it from a good copy, or build it again: {command}"
    try:
        content = path.read_bytes()
    except OSError as err:
        raise RefusedError(f"{path} cannot be read ({err.strerror}). {fix}") from err
    digest = sha256_of(content)
    if digest != sha256:
        raise RefusedError(
            f"{path} is not what its manifest says: sha256 {digest[:_HASH_DIGITS]} ({len(content):,} bytes), expected "
            f"{sha256[:_HASH_DIGITS] or 'none'}. {fix}"
        )
    return content
