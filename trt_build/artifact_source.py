"""What plans are built from and answers are compared with: the ONNX model of an artefact's folder, or a single ONNX file.

It is refused unless it is what its manifest says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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
from trt_build.export.precision import typed_onnx
from trt_build.export.ranges_from_rows import Ranges
from trt_build.manifest import (
    ONNX_FORMAT,
    OnnxManifest,
    checked_format,
    library_versions,
    manifest_beside,
    read_manifest,
    read_plain,
    sha256_of,
)

__all__ = ["ArtifactSource", "TypedOnnx", "open_source", "parsed"]

_SHOWN: Final = 12
_REBUILD: Final = "Fix: restore it from a good copy, or build it again"


@dataclass(frozen=True)
class TypedOnnx:
    """An ONNX file's bytes in one precision, and its manifest."""

    content: bytes
    manifest: OnnxManifest


@dataclass(frozen=True)
class ArtifactSource:
    """A model in fp32, or a file of another precision, which then is the only one it has.

    Attributes:
        version: of the artefact; of a single file its name and the start of its hash.
        content: the file's bytes.
        manifest: of the file; made of the artefact's manifest for a folder.
        feature_names: of dense features, where they are the catalogue's.
        items: (N, D) float32 vectors of items, for an artefact; None else.
        command: that made it.
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

    def typed(self, precision: Precision, ranges: Ranges | None = None, command: str = "") -> TypedOnnx:
        """Return it in `precision`.

        Raises:
            RefusedError: It is a file of another precision.
            BuildError: See `typed_onnx`.
        """
        own = self.manifest.precision
        if own == precision or {own, precision} == {"fp32", "tf32"}:
            return TypedOnnx(self.content, _changed(self.manifest, precision=precision))
        if own not in {"fp32", "tf32"}:
            raise RefusedError(f"the file is {own}, {precision} is asked for. Fix: begin with the fp32 file")
        model = typed_onnx(parsed(self.content, self.version), precision, ranges)
        content = model.SerializeToString()
        manifest = _changed(
            self.manifest,
            sha256=sha256_of(content),
            source_sha256=self.manifest.sha256,
            structure_sha256=structure_sha256(model),
            precision=precision,
            rows_sha256=ranges.rows_sha256 if ranges and precision == "int8" else "",
            command=command or self.manifest.command,
        )
        return TypedOnnx(content, manifest)


def open_source(path: Path) -> ArtifactSource:
    """Read an artefact's folder, or an ONNX file with its manifest beside it.

    Raises:
        RefusedError: Something of it is missing, damaged, cut short, of something else, or newer than this program.
    """
    return _of_folder(path) if path.is_dir() else _of_file(path)


def parsed(content: bytes, what: str) -> onnx.ModelProto:
    """Parse an ONNX file's bytes.

    Raises:
        RefusedError: They are none, are cut short, or are of a newer opset than this program's.
    """
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as err:
        raise RefusedError(f"{what} is no whole ONNX model ({str(err).splitlines()[0]}). {_REBUILD}") from err
    opset = opset_of(model)
    if opset > OPSET:
        raise RefusedError(
            f"{what} is of ONNX opset {opset}, this program and TensorRT 10 know up to {OPSET}. Fix: export it "
            f"with opset_version={OPSET}"
        )
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators."""
    return max((one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}), default=0)


def _of_folder(folder: Path) -> ArtifactSource:
    manifest = read_manifest(folder)
    content = _checked(folder / MODEL_FILE, manifest.sha256.get(MODEL_FILE, ""), manifest.command)
    model = parsed(content, str(folder / MODEL_FILE))
    tensors = EventInputs(len(manifest.feature_names)).tensors()
    _check_tensors(folder / MODEL_FILE, model, {s.name: s for s in tensors}, [s.name for s in OUTPUTS])
    _checked(folder / ITEMS_FILE, manifest.sha256.get(ITEMS_FILE, ""), manifest.command)
    with np.load(folder / ITEMS_FILE, allow_pickle=False) as saved:
        items: NDArray[np.float32] = saved["item_vectors"]
    described = OnnxManifest(
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
    return ArtifactSource(manifest.version, content, described, tuple(manifest.feature_names), items)


def _of_file(path: Path) -> ArtifactSource:
    manifest = read_plain(manifest_beside(path), OnnxManifest)
    checked_format(manifest_beside(path), manifest.format, ONNX_FORMAT)
    content = _checked(path, manifest.sha256, manifest.command)
    model = parsed(content, str(path))
    _check_tensors(path, model, {spec.name: spec for spec in manifest.inputs}, manifest.outputs)
    return ArtifactSource(f"{path.stem}-{manifest.sha256[:_SHOWN]}", content, manifest)


def _checked(path: Path, wanted: str, command: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as err:
        raise RefusedError(f"{path} cannot be read ({err.strerror}). {_REBUILD}: {command}") from err
    found = sha256_of(content)
    if found != wanted:
        raise RefusedError(
            f"{path} is not what its manifest says: sha256 {found[:_SHOWN]} ({len(content):,} bytes), wanted "
            f"{wanted[:_SHOWN] or 'none'}. "
            f"{_REBUILD}: {command}"
        )
    return content


def _check_tensors(path: Path, model: onnx.ModelProto, inputs: dict[str, TensorSpec], outputs: list[str]) -> None:
    types = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT32: "int32"}
    found = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = tuple(d.dim_value for d in kind.shape.dim)[1:]
        found[value.name] = TensorSpec(value.name, types.get(kind.elem_type, str(kind.elem_type)), shape)
    served = [value.name for value in model.graph.output]
    if found != inputs or served != outputs:
        differing = [str(one) for one in (*found.values(), *inputs.values()) if found.get(one.name) != inputs.get(one.name)]
        raise RefusedError(
            f"{path} has other tensors than its manifest and this release's contract: "
            f"{', '.join(differing) or served}, wanted outputs "
            f"{outputs}. Fix: use the release that it was built with ({MANIFEST_FILE}), or build it again"
        )


def _changed(manifest: OnnxManifest, **changes: Any) -> OnnxManifest:  # noqa: ANN401 (fields by name)
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    return OnnxManifest(**(fields | changes))
