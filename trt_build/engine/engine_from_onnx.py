"""ONNX in, TensorRT plan out.

The network is strongly typed: every layer computes in the type of its ONNX node, so the file sets the precision
(`trt_build.export.precision`), any machine can verify it, and TensorRT 10 and 11 read it alike. Only TF32 for fp32 products is a
flag of the build, since a file cannot express it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.progress import Progress

from model.atomic_file import atomic_write
from model.contract import TensorSpec
from model.plan import PlanProfile, Precision
from model.tensorrt.library import collect_messages
from model.tensorrt.protocols import BuilderConfig, Network, Parser, ParserRefitter, PlanBuilder, TensorRt
from trt_build.engine.profiles import DEFAULT_PROFILES
from trt_build.engine.progress import progress_monitor
from trt_build.engine.runtime import GpuDevice
from trt_build.errors import BuildError

_GIB: Final = 1 << 30
_FIXES: Final = (  # TensorRT's message -> the fix
    (r"out of memory|OutOfMemory|insufficient (workspace|memory)", "give it more (--workspace-gib), or take smaller profiles"),
    (
        r"find any implementation|no implementation",
        "build that precision's layer in another type: --precision fp32 names the layer",
    ),
    (
        r"[Uu]nsupported|not supported|[Nn]o importer",
        "express the layer with operators of the ONNX parser of this release (NVIDIA lists them)",
    ),
    (r"[Tt]ype|precision|strongly", "the file's types do not fit; make it again: python -m trt_build onnx --precision ..."),
    (
        r"profile|dimension|shape",
        "tensors and profiles do not fit: the batch must be dimension 0 of every tensor, see --profiles",
    ),
)
_OTHER_FIX: Final = "look for it in the TensorRT release notes of this version, or build with another one"


@dataclass(frozen=True)
class EngineOptions:
    """Options of a build.

    Attributes:
        precision: of the ONNX file's types; "tf32" is an fp32 file whose products may be rounded to TF32.
        profiles: batch sizes of the plan.
        version_compatible: later releases of the same major version can load the plan; costs some speed and size.
        hardware_compatible: all GPUs from Ampere on can load it; costs more.
        refittable: weights can be exchanged without a build; they are then not folded into kernels.
        workspace_bytes: largest scratch memory of a layer.
        level: effort of the search for faster kernels, 0 to 5.
        timing_cache: folder of caches of measured kernels; None = measure all.
    """

    precision: Precision
    profiles: tuple[PlanProfile, ...] = DEFAULT_PROFILES
    version_compatible: bool = False
    hardware_compatible: bool = False
    refittable: bool = False
    workspace_bytes: int = 2 * _GIB
    level: int = 3
    timing_cache: Path | None = None


@dataclass(frozen=True)
class BuiltPlan:
    """A plan's bytes, and the seconds of its build."""

    plan: bytes
    seconds: float


def engine_from_onnx(
    trt: TensorRt, device: GpuDevice, model: bytes, tensors: tuple[TensorSpec, ...], options: EngineOptions, progress: Progress
) -> BuiltPlan:
    """Build a plan of an ONNX file's bytes, whose inputs without the batch are `tensors`; minutes at `level` 5.

    Raises:
        BuildError: TensorRT rejects the file, or finds no implementation of a layer; the message names it.
    """
    messages = collect_messages(trt)
    builder = trt.Builder(messages.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, messages.logger)
    if not parser.parse(model):
        raise BuildError(
            f"TensorRT {trt.__version__} cannot read the ONNX file: {_with_fix(parser_errors(parser) or messages.errors)}"
        )
    _check_inputs(network, tensors)
    config = _config(trt, builder, options, tensors)
    config.progress_monitor = progress_monitor(trt, progress)
    cache = timing_cache_path(options.timing_cache, trt, device) if options.timing_cache else None
    if cache:
        _attach_cache(config, cache)
    started = time.perf_counter()
    plan = builder.build_serialized_network(network, config)
    seconds = time.perf_counter() - started
    if plan is None:
        raise BuildError(f"TensorRT {trt.__version__} built no plan ({options.precision}): {_with_fix(messages.errors)}")
    if cache:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(cache) as file:
            file.write(bytes(config.get_timing_cache().serialize()))
    return BuiltPlan(bytes(plan), seconds)


def parser_errors(parser: Parser | ParserRefitter) -> list[str]:
    """Return the parser's errors, one sentence each, the layer first."""
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    return [f"{error.node_operator() or 'graph'} {error.node_name() or '(unnamed)'}: {error.desc()}" for error in errors]


def timing_cache_path(folder: Path, trt: TensorRt, device: GpuDevice) -> Path:
    """Return the cache's file; measurements are valid for one release and one GPU."""
    gpu = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")
    return folder / f"trt{trt.__version__}-{gpu}-sm{device.compute_capability.replace('.', '')}.cache"


def _check_inputs(network: Network, tensors: tuple[TensorSpec, ...]) -> None:
    inputs = {network.get_input(i).name: tuple(network.get_input(i).shape) for i in range(network.num_inputs)}
    expected = {spec.name: (-1, *spec.shape) for spec in tensors}
    if inputs != expected:
        raise BuildError(f"the network has the inputs {inputs}, expected are {expected} (-1 = batch); export the checkpoint anew")


def _config(trt: TensorRt, builder: PlanBuilder, options: EngineOptions, tensors: tuple[TensorSpec, ...]) -> BuilderConfig:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.builder_optimization_level = options.level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the inspector's report names layers and formats
    switch = config.set_flag if options.precision == "tf32" else config.clear_flag  # it is on by default
    switch(trt.BuilderFlag.TF32)
    if options.refittable:
        config.set_flag(trt.BuilderFlag.REFIT)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    for number, sizes in enumerate(options.profiles):
        profile = builder.create_optimization_profile()
        for spec in tensors:
            smallest, usual, largest = ((size, *spec.shape) for size in (sizes.min, sizes.opt, sizes.max))
            profile.set_shape(spec.name, smallest, usual, largest)
        if config.add_optimization_profile(profile) != number:
            raise BuildError(f"TensorRT refuses profile {sizes.min}:{sizes.opt}:{sizes.max}; give other sizes (--profiles)")
    return config


def _attach_cache(config: BuilderConfig, path: Path) -> None:
    content = path.read_bytes() if path.exists() else b""
    if not config.set_timing_cache(config.create_timing_cache(content), ignore_mismatch=False) and content:
        path.unlink()  # of another driver, or cut short: kernels are measured again
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _with_fix(errors: list[str]) -> str:
    text = "; ".join(errors) or "it gave no reason"
    fix = next((fix for pattern, fix in _FIXES if re.search(pattern, text)), _OTHER_FIX)
    return f"{text}. Fix: {fix}"
