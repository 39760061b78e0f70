"""A checkpoint's ONNX file in any precision, with its manifest beside it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from model.checkpoint import Checkpoint
from model.plan import Precision
from trt_build.artifact_source import ArtifactSource, OnnxVariant, parse_onnx
from trt_build.export.graph import structure_sha256
from trt_build.export.onnx_from_checkpoint import OPSET, onnx_from_checkpoint
from trt_build.export.ranges_from_rows import Ranges
from trt_build.manifest import OnnxManifest, library_versions, manifest_beside, sha256_of, weights_sha256, write_manifest


def source_of_checkpoint(checkpoint: Checkpoint, command: str) -> ArtifactSource:
    """Export a checkpoint in fp32, with the input tensors and the served outputs of its network; `command` repeats it."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx_from_checkpoint(checkpoint, path)
        content = path.read_bytes()
    model = parse_onnx(content, "the exported model")
    network, digest = checkpoint.network, sha256_of(content)
    outputs = [value.name for value in model.graph.output]
    kinds = {task.name: task.kind for task in network.tasks}
    manifest = OnnxManifest(
        sha256=digest,
        source_sha256=digest,
        weights_sha256=weights_sha256(checkpoint),
        structure_sha256=structure_sha256(model),
        catalogue_hash=checkpoint.catalogue_hash,
        precision="fp32",
        opset=OPSET,
        inputs=list(network.inputs.tensors()),
        outputs=outputs,
        kinds={name: kinds[name] for name in outputs},
        command=command,
        seconds=round(time.perf_counter() - started, 3),
        versions=library_versions(),
    )
    return ArtifactSource(f"{checkpoint.preset}-{digest[:12]}", content, manifest, tuple(checkpoint.feature_names))


def write_onnx(source: ArtifactSource, path: Path, precision: Precision, ranges: Ranges | None, command: str) -> OnnxVariant:
    """Write a source in `precision` to `path`, its manifest last; return it.

    Raises:
        BuildError: See `ArtifactSource.in_precision`; nothing is written then.
    """
    variant = source.in_precision(precision, ranges, command)
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest_beside(path).unlink(missing_ok=True)
    path.write_bytes(variant.content)
    write_manifest(manifest_beside(path), variant.manifest)
    return variant
