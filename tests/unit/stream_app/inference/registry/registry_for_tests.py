"""Small artefacts that are whole but hold no network, and registries over every shelf."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from model.contract import ITEMS_FILE, MANIFEST_FILE, MODEL_FILE, Manifest
from stream_app.clock import SystemClock
from stream_app.inference.registry.registry_factory import open_registry

__all__ = ["paper_artefact", "shadow_often"]


def paper_artefact(folder: Path, name: str, content: bytes = b"weights") -> str:
    """Write an artefact that a registry takes for one; returns its version."""
    folder.mkdir(parents=True)
    files = {MODEL_FILE: content, ITEMS_FILE: b"items", "samples.npz": b"samples"}
    for file, held in files.items():
        (folder / file).write_bytes(held)
    version = f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
    manifest = Manifest(
        name=name,
        version=version,
        catalogue_hash="c",
        feature_names=["f"],
        feature_medians=[0.0],
        feature_scales=[1.0],
        sha256={file: hashlib.sha256(held).hexdigest() for file, held in files.items()},
        fraud_threshold=0.5,
        preset="demo",
        command="make it",
        commit="0",
        trained_on={},
        metrics={"fraud": {"auc": 0.9}},
        versions={},
        samples="samples.npz",
    )
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))
    return version


def shadow_often(place: str, version: str, times: int) -> None:
    """Change the registry's shadow so often; runs in a process of its own."""
    registry = open_registry(place, SystemClock())
    for _ in range(times):
        registry.shadow(version, by=version, why="")
