"""Plans on disk: build, write with manifest and report, list, read, and refuse those that do not fit.

A plan of an artefact lies in its folder `plans`, a plan of a single ONNX file beside that file unless a path is given. The
manifest is written last.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
from rich.progress import Progress

from model.atomic_file import atomic_write
from model.commit import commit
from model.plan import PLAN_FORMAT, PLAN_SUFFIX, PLANS_FOLDER, PlanManifest, unfit_reason
from model.tensorrt.protocols import TensorRt
from trt_build.artifact_source import ArtifactSource, OnnxVariant
from trt_build.engine.engine_from_onnx import EngineOptions, engine_from_onnx
from trt_build.engine.plan_runner import engine_of
from trt_build.engine.report_from_engine import report_from_engine
from trt_build.engine.runtime import GpuDevice
from trt_build.errors import RefusedError
from trt_build.manifest import library_versions, manifest_beside, read_manifest_file, sha256_of, verified_bytes, write_manifest

_REPORT: Final = ".report.json"
_HASH_DIGITS: Final = 12


def default_path(source: Path, precision: str, trt: TensorRt, device: GpuDevice) -> Path:
    """Return a plan's path: one name for each precision, GPU generation and release, so that plans lie side by side."""
    name = f"{precision}-sm{device.compute_capability.replace('.', '')}-trt{trt.__version__}{PLAN_SUFFIX}"
    return source / PLANS_FOLDER / name if source.is_dir() else source.with_name(f"{source.stem}-{name}")


def plans_of(source: Path) -> list[Path]:
    """Return the plans of an artefact's folder, or beside a single ONNX file, that have a manifest."""
    folder = source / PLANS_FOLDER if source.is_dir() else source.parent
    return sorted(path for path in folder.glob(f"*{PLAN_SUFFIX}") if manifest_beside(path).exists())


def read_plan(path: Path, source: ArtifactSource | None = None) -> tuple[bytes, PlanManifest]:
    """Read a plan and its manifest, of the model `source` or of any; needs no GPU.

    Raises:
        RefusedError: It is damaged, cut short, newer than this program, or of another model.
    """
    manifest = read_manifest_file(manifest_beside(path), PlanManifest, PLAN_FORMAT)
    content = verified_bytes(path, manifest.sha256, manifest.command)
    if source is not None:
        pairs: dict[str, tuple[Any, Any]] = {
            "model": (manifest.model_sha256[:_HASH_DIGITS], source.manifest.source_sha256[:_HASH_DIGITS]),
            "feature catalogue": (manifest.catalogue_hash, source.manifest.catalogue_hash),
            "inputs": (manifest.inputs, source.manifest.inputs),
            "outputs": (manifest.outputs, source.manifest.outputs),
        }
        wrong = [f"its {name} {theirs}, here {ours}" for name, (theirs, ours) in pairs.items() if theirs != ours]
        if wrong:
            raise RefusedError(f"{path} is of another model: {'; '.join(wrong)}. Fix: build it from this one: {manifest.command}")
    return content, manifest


def check_fits(manifest: PlanManifest, trt: TensorRt, device: GpuDevice) -> None:
    """Refuse a plan that this machine cannot run.

    Raises:
        RefusedError: Another release of TensorRT built it, or it is for another generation of GPUs.
    """
    why = unfit_reason(manifest, trt.__version__, device.compute_capability)
    if why:
        raise RefusedError(
            f"the plan does not fit this machine: {why}. Fix: build it again here, or once with --version-compatible (by the "
            "oldest release of one major version) and --hardware-compatible"
        )


def build_plan(
    trt: TensorRt,
    device: GpuDevice,
    source: ArtifactSource,
    variant: OnnxVariant,
    options: EngineOptions,
    command: str,
    progress: Progress,
) -> tuple[bytes, PlanManifest, dict[str, Any]]:
    """Build a plan of `variant`, the file of `source` in the precision of `options`; `command` rebuilds it.

    Returns its bytes, its manifest and the inspector's report.

    Raises:
        BuildError: See `engine_from_onnx`.
    """
    built = engine_from_onnx(trt, device, variant.content, source.tensors, options, progress)
    engine = engine_of(trt, built.plan, version_compatible=options.version_compatible)
    manifest = PlanManifest(
        sha256=sha256_of(built.plan),
        model_version=source.version,
        model_sha256=source.manifest.source_sha256,
        onnx_sha256=variant.manifest.sha256,
        catalogue_hash=source.manifest.catalogue_hash,
        precision=options.precision,
        profiles=list(options.profiles),
        tensorrt=trt.__version__,
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        refittable=options.refittable,
        gpu=device.name,
        compute_capability=device.compute_capability,
        build_seconds=round(built.seconds, 3),
        command=command,
        commit=commit(),
        versions=library_versions() | {"tensorrt": trt.__version__},
        weights_sha256=source.manifest.weights_sha256,
        structure_sha256=variant.manifest.structure_sha256,
        inputs=list(source.tensors),
        outputs=source.manifest.outputs,
        layers=engine.num_layers,
    )
    return built.plan, manifest, report_from_engine(trt, engine)


def write_plan(path: Path, plan: bytes, manifest: PlanManifest, report: dict[str, Any]) -> PlanManifest:
    """Write plan, report and, last, manifest; return the manifest as written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest_beside(path).unlink(missing_ok=True)  # a half-written plan has none
    beside = path.with_name(f"{path.name}{_REPORT}")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    with atomic_write(path) as file:
        file.write(plan)
    written = msgspec.structs.replace(manifest, report=beside.name)
    write_manifest(manifest_beside(path), written)
    return written


def report_beside(path: Path, manifest: PlanManifest) -> dict[str, Any]:
    """Return the inspector's report that was written with a plan.

    Raises:
        RefusedError: The report is missing.
    """
    beside = path.with_name(manifest.report)
    if not manifest.report or not beside.exists():
        raise RefusedError(f"there is no report beside {path}. Fix: copy it with the plan, or build again: {manifest.command}")
    return msgspec.json.decode(beside.read_bytes(), type=dict[str, Any])
