"""Read a model artefact from disk, and refuse a damaged or foreign one.

An artefact is a folder: `manifest.json`, `model.onnx`, `items.npz`, `samples.npz`. Each file is compared with its checksum in the
manifest before use. Every refusal is a `ContractError` that names both sides and the operator's action.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.contract import ITEMS_FILE, MANIFEST_FILE, MANIFEST_FORMAT, USER_VECTOR_DIM, Manifest
from stream_app.errors import ContractError

_REBUILD: Final = "Operator action: restore the folder from a good copy, or build it again with the command in its manifest"
_HASH_DIGITS: Final = 12  # of a hash in messages


class _Format(msgspec.Struct):
    format: int = MANIFEST_FORMAT


def load_manifest(folder: Path) -> Manifest:
    """Read `manifest.json`.

    Raises:
        ContractError: The file is missing, is not a manifest, has a newer format, or contradicts itself.
    """
    path = folder / MANIFEST_FILE
    try:
        content = path.read_bytes()
        manifest_format = msgspec.json.decode(content, type=_Format).format
        if manifest_format > MANIFEST_FORMAT:  # before decoding the rest, whose meaning may differ
            raise ContractError(
                f"{path} has format {manifest_format}, this release reads up to {MANIFEST_FORMAT}: the artefact is too new. "
                "Operator action: deploy the release that the artefact was built with, or build it again with this one."
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except OSError as error:
        raise ContractError(
            f"no model artefact at {folder}: {path.name} cannot be read ({error.strerror}). "
            "Operator action: set MILLRACE_MODEL_PATH to an artefact folder, or build one with "
            f"`python -m training --preset demo --out {folder}`."
        ) from error
    except msgspec.MsgspecError as error:
        raise ContractError(f"{path} is no valid manifest: {error}. {_REBUILD}.") from error
    sizes = (len(manifest.feature_names), len(manifest.feature_medians), len(manifest.feature_scales))
    if len(set(sizes)) != 1:
        raise ContractError(
            f"{path} has {sizes[0]} feature names, {sizes[1]} medians and {sizes[2]} scales; they must be as many. {_REBUILD}."
        )
    return manifest


def verified_bytes(folder: Path, manifest: Manifest, name: str) -> bytes:
    """Return a file's bytes after comparing them with the manifest's checksum.

    Raises:
        ContractError: The file is missing, is not in the manifest, or has other bytes.
    """
    expected = manifest.sha256.get(name)
    if expected is None:
        raise ContractError(
            f"{folder / MANIFEST_FILE} has no sha256 of {name}, only of {sorted(manifest.sha256)}. {_REBUILD}: {manifest.command}"
        )
    return bytes_of_hash(folder / name, expected, f"{_REBUILD}: {manifest.command}")


def bytes_of_hash(path: Path, expected: str, action: str) -> bytes:
    """Return a file's bytes, whose SHA-256 must be `expected`.

    Raises:
        ContractError: The file is missing or has other bytes; the message ends with `action`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ContractError(f"{path} cannot be read ({error.strerror}). {action}") from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise ContractError(
            f"{path} is corrupted or was exchanged: sha256 {actual[:_HASH_DIGITS]} ({len(content)} bytes), the "
            f"manifest says {expected[:_HASH_DIGITS]}. {action}"
        )
    return content


def load_arrays(folder: Path, manifest: Manifest, name: str) -> dict[str, NDArray[Any]]:
    """Read a verified `.npz` file; no pickled objects are accepted."""
    verified_bytes(folder, manifest, name)
    try:
        with np.load(folder / name, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ContractError(f"{folder / name} is no readable npz file: {error}. {_REBUILD}: {manifest.command}") from error


def load_items(folder: Path, manifest: Manifest | None = None) -> tuple[list[str], NDArray[np.float32]]:
    """Read the items that can be recommended.

    Returns:
        Their ids, and their vectors (N, USER_VECTOR_DIM) float32 in the same order.

    Raises:
        ContractError: The file is missing, corrupted, or not of the contract's shape.
    """
    manifest = manifest or load_manifest(folder)
    arrays = load_arrays(folder, manifest, ITEMS_FILE)
    try:
        ids, vectors = arrays["item_ids"], arrays["item_vectors"]
    except KeyError as error:
        raise ContractError(
            f"{folder / ITEMS_FILE} has no array {error}, only {sorted(arrays)}. {_REBUILD}: {manifest.command}"
        ) from error
    if vectors.shape != (len(ids), USER_VECTOR_DIM):
        raise ContractError(
            f"{folder / ITEMS_FILE} holds {len(ids)} ids and vectors of shape {vectors.shape}; the contract says "
            f"({len(ids)}, {USER_VECTOR_DIM}). {_REBUILD}: {manifest.command}"
        )
    return [str(item) for item in ids], np.ascontiguousarray(vectors, dtype=np.float32)


def load_samples(folder: Path, manifest: Manifest) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Read the recorded inputs and outputs of the self-test: ({name: (R, ...)}, {name: (R, ...)}).

    Raises:
        ContractError: The artefact has none, or the file is damaged.
    """
    if not manifest.samples:
        raise ContractError(
            f"{folder / MANIFEST_FILE} names no recorded samples to test the model with. {_REBUILD}: {manifest.command}"
        )
    arrays = load_arrays(folder, manifest, manifest.samples)
    inputs = {key[3:]: value for key, value in arrays.items() if key.startswith("in_")}
    outputs = {key[4:]: value for key, value in arrays.items() if key.startswith("out_")}
    return inputs, outputs


def check_catalogue(manifest: Manifest, catalogue_hash: str, feature_names: Sequence[str]) -> None:
    """Compare the features a model was trained on with the worker's catalogue and its dense features, in the tensor's order.

    Raises:
        ContractError: They differ; the message names the difference and the fix.
    """
    if manifest.catalogue_hash == catalogue_hash and manifest.feature_names == list(feature_names):
        return
    ours, theirs = list(feature_names), manifest.feature_names
    missing = [name for name in theirs if name not in ours]
    added = [name for name in ours if name not in theirs]
    moved = [f"{i}: {a} / {b}" for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b]
    if missing or added:
        what = f"the model wants {missing or 'nothing more'}, the worker has {added or 'nothing more'}"
    elif moved:
        what = f"the order differs (position: model / worker): {moved[:5]}"
    else:
        what = "the names agree, but a window, an aggregation or the layout changed"
    raise ContractError(
        f"the model {manifest.version} was trained with feature catalogue {manifest.catalogue_hash[:_HASH_DIGITS]} "
        f"({len(theirs)} features), this worker has {catalogue_hash[:_HASH_DIGITS]} ({len(ours)} features): {what}. "
        "Operator action: deploy the release that the model was trained with, or train again with this catalogue: "
        f"{manifest.command}"
    )
