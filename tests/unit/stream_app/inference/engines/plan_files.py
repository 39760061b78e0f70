"""Plans for tests: files whose bytes no TensorRT has made."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from model.contract import MODEL_FILE
from model.plan import PLANS_FOLDER, PlanManifest, PlanProfile
from stream_app.inference.artifact import load_manifest

CONTENT = b"a plan"


def plan_manifest(folder: Path, **changes: Any) -> PlanManifest:
    """The manifest of a plan of the artefact in `folder`, for TensorRT 10.15 and compute capability 9.0."""
    manifest = load_manifest(folder)
    made = PlanManifest(
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        model_version=manifest.version,
        model_sha256=manifest.sha256[MODEL_FILE],
        onnx_sha256=manifest.sha256[MODEL_FILE],
        catalogue_hash=manifest.catalogue_hash,
        precision="fp32",
        profiles=[PlanProfile(1, 64, 1024)],
        tensorrt="10.15.1.29",
        version_compatible=False,
        hardware_compatible=False,
        refittable=False,
        gpu="NVIDIA H100",
        compute_capability="9.0",
        build_seconds=1.0,
        command="a command",
        commit="0123456",
        versions={},
    )
    return msgspec.structs.replace(made, **changes)


def add_plan(folder: Path, name: str, **changes: Any) -> Path:
    """Put a plan and its manifest into the artefact; returns the plan's path."""
    plans = folder / PLANS_FOLDER
    plans.mkdir(exist_ok=True)
    path = plans / f"{name}.plan"
    path.write_bytes(CONTENT)
    (plans / f"{name}.plan.json").write_bytes(msgspec.json.encode(plan_manifest(folder, **changes)))
    return path
