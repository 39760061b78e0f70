"""The manifest of a TensorRT plan: `<plan>.json` beside each `*.plan` in the folder `plans/` of an artefact.

`trt_build` writes it; the worker reads it before the plan. A plan for another GPU or another TensorRT is not damaged: an artefact
may carry a plan for each kind of machine.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from model.contract import TensorSpec

PLANS_FOLDER: Final = "plans"
PLAN_SUFFIX: Final = ".plan"  # its manifest has the same name with `.json` behind it: `fp16.plan`, `fp16.plan.json`
PLAN_FORMAT: Final = 1  # raised when a worker that knows the previous format would misread the file

_AMPERE: Final = (8, 0)  # the first generation whose plans can be made to run on later ones

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8"]
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)


class PlanProfile(msgspec.Struct, frozen=True):
    """One optimisation profile: its smallest and largest batch, and the batch that it is tuned for."""

    min: int
    opt: int
    max: int


class PlanManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One plan: its model, its build, and its machine."""

    format: int = PLAN_FORMAT
    sha256: str  # of the plan's bytes
    model_version: str  # of the artefact it belongs to: manifest.json's `version`
    model_sha256: str  # of the artefact's model.onnx (fp32)
    onnx_sha256: str  # of the ONNX file of the build: model.onnx, or its conversion to another precision
    catalogue_hash: str
    precision: Precision
    profiles: list[PlanProfile]  # by index, as in the engine
    tensorrt: str  # version of the library, "10.15.1.29"
    version_compatible: bool  # any TensorRT of the same major version, as new or newer, loads it
    hardware_compatible: bool  # any GPU of the same or a newer generation (Ampere and later)
    refittable: bool
    gpu: str  # its name
    compute_capability: str  # "9.0"
    build_seconds: float
    command: str  # the command that rebuilds it
    commit: str
    versions: dict[str, str]
    weights_sha256: str = ""  # of the checkpoint's weights; changes with a refit
    structure_sha256: str = ""  # of the ONNX file without its weights: a refit needs the same
    inputs: list[TensorSpec] = []  # as built, without the batch
    outputs: list[str] = []
    layers: int = 0  # of the engine, after fusion
    report: str = ""  # file with the inspector's report, beside the plan
    refitted_from: str = ""  # sha256 of the plan before the refit


def unfit_reason(plan: PlanManifest, tensorrt: str, compute_capability: str) -> str:
    """Return why a machine cannot run a plan, by its version of TensorRT and its GPU's compute capability; "" if it can."""
    built, installed = _numbers(plan.tensorrt), _numbers(tensorrt)
    if plan.version_compatible:
        if built[0] != installed[0] or built > installed:
            return f"built by TensorRT {plan.tensorrt}, here is {tensorrt}; {built[0]}.x from that version on can load it"
    elif built != installed:
        return f"built by TensorRT {plan.tensorrt}, here is {tensorrt}"
    target, own = _numbers(plan.compute_capability), _numbers(compute_capability)
    if target == own or (plan.hardware_compatible and _AMPERE <= target <= own):
        return ""
    return f"built for compute capability {plan.compute_capability} ({plan.gpu}), here is {compute_capability}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
