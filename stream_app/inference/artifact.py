"""A model artefact on disk: read it, and refuse it when it is not whole or not ours.

An artefact is a folder: `manifest.json`, `model.onnx`, `items.npz`, `samples.npz`. Nothing is used before its checksum
in the manifest has been compared. Every refusal is a `ContractError` that names both sides and the operator's action.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.contract import ITEMS_FILE, MANIFEST_FILE, MANIFEST_FORMAT, USER_VECTOR_DIM, Manifest
from stream_app.errors import ContractError

__all__ = [
    "check_catalogue",
    "load_items",
    "load_manifest",
    "load_samples",
    "verified_bytes",
]

_REBUILD: Final = "Operator action: restore the folder from a good copy, or build it again with the command in its manifest"
_HASH_SHOWN: Final = 12  # characters of a hash that a person compares


class _Format(msgspec.Struct):
    format: int = MANIFEST_FORMAT


def load_manifest(folder: Path) -> Manifest:
    """Read `manifest.json`.

    Raises:
        ContractError: There is no such folder or file, or it is no manifest, or a newer one, or it contradicts itself.
    """
    path = folder / MANIFEST_FILE
    try:
        content = path.read_bytes()
        found = msgspec.json.decode(content, type=_Format).format
        if found > MANIFEST_FORMAT:  # before the rest is looked at: it may mean something else
            raise ContractError(
                f"{path} has format {found}, this release reads up to {MANIFEST_FORMAT}: the artefact is too new. Operator "
                "action: deploy the release that the artefact was built with, or build it again with this one."
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
    wanted = manifest.sha256.get(name)
    if wanted is None:
        raise ContractError(
            f"{folder / MANIFEST_FILE} has no sha256 of {name}, only of {sorted(manifest.sha256)}. {_REBUILD}: {manifest.command}"
        )
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ContractError(f"{folder / name} cannot be read ({error.strerror}). {_REBUILD}: {manifest.command}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise ContractError(
            f"{folder / name} is corrupted or was exchanged: sha256 {found[:_HASH_SHOWN]} ({len(content)} bytes), the "
            f"manifest says {wanted[:_HASH_SHOWN]}. {_REBUILD}: {manifest.command}"
        )
    return content


def load_arrays(folder: Path, manifest: Manifest, name: str) -> dict[str, NDArray[Any]]:
    """Read a verified `.npz` file; no pickled objects are accepted."""
    verified_bytes(folder, manifest, name)
    try:
        with np.load(folder / name, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
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
    """Compare the features a model was trained on with those this worker computes.

    Args:
        manifest: the model's.
        catalogue_hash: the worker's own catalogue's.
        feature_names: the worker's dense features, in the order of the tensor.

    Raises:
        ContractError: They differ; the message says in what and how to fix it.
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
        f"the model {manifest.version} was trained with feature catalogue {manifest.catalogue_hash[:_HASH_SHOWN]} "
        f"({len(theirs)} features), this worker has {catalogue_hash[:_HASH_SHOWN]} ({len(ours)} features): {what}. "
        "Operator action: deploy the release that the model was trained with, or train again with this catalogue: "
        f"{manifest.command}"
    )
