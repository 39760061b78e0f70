"""The source of a build or a comparison: the ONNX model of an artefact's folder, or a single ONNX file.

A file whose hash, tensors or format differ from its manifest is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from model.contract import ITEMS_FILE, MANIFEST_FILE, MODEL_FILE, OUTPUTS, TensorSpec
from model.inputs import EventInputs
from model.plan import Precision
from model.tasks import SHOP_TASKS
from trt_build.errors import RefusedError
from trt_build.export.graph import structure_sha256
from trt_build.export.onnx_from_checkpoint import OPSET
from trt_build.export.precision import onnx_in_precision
from trt_build.export.ranges_from_rows import Ranges
from trt_build.manifest import (
    ONNX_FORMAT,
    OnnxManifest,
    library_versions,
    manifest_beside,
    read_manifest,
    read_manifest_file,
    sha256_of,
    verified_bytes,
)

_HASH_DIGITS: Final = 12


@dataclass(frozen=True)
class OnnxVariant:
    """An ONNX file's bytes in one precision, and its manifest."""

    content: bytes
    manifest: OnnxManifest


@dataclass(frozen=True)
class ArtifactSource:
    """A model in fp32, which can be converted, or in another precision, which cannot.

    Attributes:
        version: of the artefact; for a single file its name and the start of its hash.
        content: the file's bytes.
        manifest: of the file; for a folder derived from the artefact's manifest.
        feature_names: of the dense features, if they are the catalogue's.
        items: (N, D) float32 item vectors of an artefact; None for a single file.
    """

    version: str
    content: bytes
    manifest: OnnxManifest
    feature_names: tuple[str, ...] = ()
    items: NDArray[np.float32] | None = None

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Inputs, in order, without the batch."""
        return tuple(self.manifest.inputs)

    def in_precision(self, precision: Precision, ranges: Ranges | None = None, command: str = "") -> OnnxVariant:
        """Return the model in `precision`.

        Raises:
            RefusedError: The file has another precision than fp32 already.
            BuildError: See `onnx_in_precision`.
        """
        own = self.manifest.precision
        if own == precision or {own, precision} == {"fp32", "tf32"}:
            return OnnxVariant(self.content, msgspec.structs.replace(self.manifest, precision=precision))
        if own not in {"fp32", "tf32"}:
            raise RefusedError(f"the file is {own}, {precision} is asked for. Fix: begin with the fp32 file")
        model = onnx_in_precision(parse_onnx(self.content, self.version), precision, ranges)
        content = model.SerializeToString()
        manifest = msgspec.structs.replace(
            self.manifest,
            sha256=sha256_of(content),
            source_sha256=self.manifest.sha256,
            structure_sha256=structure_sha256(model),
            precision=precision,
            rows_sha256=ranges.rows_sha256 if ranges and precision == "int8" else "",
            command=command or self.manifest.command,
        )
        return OnnxVariant(content, manifest)


def open_source(path: Path) -> ArtifactSource:
    """Read an artefact's folder, or an ONNX file with its manifest beside it.

    Raises:
        RefusedError: A part is missing, damaged, cut short, of another model, or newer than this program.
    """
    return _read_folder(path) if path.is_dir() else _read_file(path)


def parse_onnx(content: bytes, name: str) -> onnx.ModelProto:
    """Parse an ONNX file's bytes.

    Raises:
        RefusedError: They are not an ONNX model, are cut short, or have a newer opset than this program knows.
    """
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as err:
        raise RefusedError(
            f"{name} is no whole ONNX model ({str(err).splitlines()[0]}). Fix: restore it from a good copy, or build it again"
        ) from err
    opset = opset_of(model)
    if opset > OPSET:
        raise RefusedError(
            f"{name} is of ONNX opset {opset}, this program and TensorRT 10 know up to {OPSET}. Fix: export it "
            f"with opset_version={OPSET}"
        )
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators."""
    return max((opset.version for opset in model.opset_import if opset.domain in {"", "ai.onnx"}), default=0)


def _read_folder(folder: Path) -> ArtifactSource:
    manifest = read_manifest(folder)
    content = verified_bytes(folder / MODEL_FILE, manifest.sha256.get(MODEL_FILE, ""), manifest.command)
    model = parse_onnx(content, str(folder / MODEL_FILE))
    tensors = EventInputs(len(manifest.feature_names)).tensors()
    _check_tensors(folder / MODEL_FILE, model, {s.name: s for s in tensors}, [s.name for s in OUTPUTS])
    verified_bytes(folder / ITEMS_FILE, manifest.sha256.get(ITEMS_FILE, ""), manifest.command)
    with np.load(folder / ITEMS_FILE, allow_pickle=False) as saved:
        items: NDArray[np.float32] = saved["item_vectors"]
    onnx_manifest = OnnxManifest(
        sha256=manifest.sha256[MODEL_FILE],
        source_sha256=manifest.sha256[MODEL_FILE],
        weights_sha256=manifest.weights_sha256,
        structure_sha256=structure_sha256(model),
        catalogue_hash=manifest.catalogue_hash,
        precision="fp32",
        opset=opset_of(model),
        inputs=list(tensors),
        outputs=[spec.name for spec in OUTPUTS],
        kinds={task.name: task.kind for task in SHOP_TASKS if task.name in {spec.name for spec in OUTPUTS}},
        command=manifest.command,
        seconds=0.0,
        versions=library_versions(),
    )
    return ArtifactSource(manifest.version, content, onnx_manifest, tuple(manifest.feature_names), items)


def _read_file(path: Path) -> ArtifactSource:
    manifest = read_manifest_file(manifest_beside(path), OnnxManifest, ONNX_FORMAT)
    content = verified_bytes(path, manifest.sha256, manifest.command)
    model = parse_onnx(content, str(path))
    _check_tensors(path, model, {spec.name: spec for spec in manifest.inputs}, manifest.outputs)
    return ArtifactSource(f"{path.stem}-{manifest.sha256[:_HASH_DIGITS]}", content, manifest)


def _check_tensors(path: Path, model: onnx.ModelProto, inputs: dict[str, TensorSpec], outputs: list[str]) -> None:
    types = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT32: "int32"}
    own_inputs = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = tuple(d.dim_value for d in kind.shape.dim)[1:]
        own_inputs[value.name] = TensorSpec(value.name, types.get(kind.elem_type, str(kind.elem_type)), shape)
    own_outputs = [value.name for value in model.graph.output]
    if own_inputs != inputs or own_outputs != outputs:
        specs = (*own_inputs.values(), *inputs.values())
        differing = [str(spec) for spec in specs if own_inputs.get(spec.name) != inputs.get(spec.name)]
        raise RefusedError(
            f"{path} has other tensors than its manifest and this release's contract: {', '.join(differing) or own_outputs}, "
            f"expected outputs {outputs}. Fix: use the release that it was built with ({MANIFEST_FILE}), or build it again"
        )
