"""A second model for a swap: a valid copy of an artefact with slightly other weights.

Its checksums, its recorded answers and its version are its own, so answers show which of the two models made them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from model.contract import MANIFEST_FILE, MODEL_FILE, Manifest
from model.digest import file_sha256
from stream_app.inference.artifact import load_manifest, load_samples
from stream_app.inference.engines.onnx_scorer import OnnxScorer
from trt_build.manifest import write_manifest

_HEADS = (".out.weight", ".taste.out.weight")  # last layers: every answer moves, none of them far


def perturbed(folder: Path, target: Path, by: float = 0.05, seed: int = 1) -> str:
    """Write the copy to a new folder and return its version; `by` is the noise's standard deviation, relative to the weights'."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("plans"))
    network = onnx.load(str(target / MODEL_FILE))
    draw = np.random.default_rng(seed)
    for tensor in network.graph.initializer:
        if tensor.name.endswith(_HEADS):
            values = numpy_helper.to_array(tensor)
            noisy = values + draw.normal(0.0, by * float(values.std()), values.shape)
            tensor.CopyFrom(numpy_helper.from_array(noisy.astype(values.dtype), tensor.name))
    onnx.save(network, str(target / MODEL_FILE))
    manifest = load_manifest(folder)
    digest = file_sha256(target / MODEL_FILE)
    manifest = msgspec.structs.replace(
        manifest, version=f"{manifest.name}-{digest[:12]}", sha256={**manifest.sha256, MODEL_FILE: digest}
    )
    write_manifest(target / MANIFEST_FILE, manifest)
    _record_again(folder, target, manifest)
    return manifest.version


def _record_again(folder: Path, target: Path, manifest: Manifest) -> None:
    """Replace the recorded outputs by what the copy answers."""
    inputs, _ = load_samples(folder, load_manifest(folder))
    scorer = OnnxScorer(target)
    outputs = scorer.score(inputs)
    scorer.close()
    recorded: dict[str, Any] = {f"in_{name}": values for name, values in inputs.items()} | {
        f"out_{name}": v for name, v in outputs.items()
    }
    np.savez_compressed(target / manifest.samples, **recorded)
    sha256 = {**manifest.sha256, manifest.samples: file_sha256(target / manifest.samples)}
    write_manifest(target / MANIFEST_FILE, msgspec.structs.replace(manifest, sha256=sha256))
