"""The TensorRT plans of an artefact: find the fastest plan that fits this machine, and verify it.

A plan runs on the GPUs and the TensorRT release of its build, so an artefact may carry several, in `plans/`. A plan that does not
fit is skipped with the reason; a plan that is damaged or of another model is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from model.contract import MODEL_FILE, Manifest
from model.plan import PLAN_FORMAT, PLAN_SUFFIX, PLANS_FOLDER, PlanManifest, Precision, unfit_reason
from stream_app.errors import ContractError, EngineNotHereError
from stream_app.inference.artifact import bytes_of_hash

_FASTEST_FIRST: Final[tuple[Precision, ...]] = ("fp16", "tf32", "bf16", "fp32", "int8")  # int8 last: its answers differ most
_BUILD: Final = "Operator action: build one on a machine like this with `python -m trt_build engine`; see docs/engines.md"
_HASH_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Machine:
    """TensorRT's version as "10.15.1.29", and the GPU's compute capability as "9.0"."""

    tensorrt: str
    compute_capability: str


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """A plan that fits: its file, its manifest, and its verified bytes."""

    path: Path
    manifest: PlanManifest
    content: bytes


class _Format(msgspec.Struct):
    format: int = PLAN_FORMAT


def find_plan(folder: Path, manifest: Manifest, machine: Machine, precision: str = "") -> EnginePlan:
    """Return the fastest plan of an artefact that `machine` can run, of that precision if one is given.

    Raises:
        EngineNotHereError: No plan fits; the message gives the reason for each.
        ContractError: The chosen plan is damaged, or belongs to another model.
    """
    fitting: list[tuple[int, Path, PlanManifest]] = []
    unfit: list[str] = []
    for path, plan in _plans(folder):
        why = f"it is {plan.precision}, model.precision asks for {precision}" if precision not in {"", plan.precision} else ""
        why = why or unfit_reason(plan, machine.tensorrt, machine.compute_capability)
        if why:
            unfit.append(f"{path.name}: {why}")
        else:
            fitting.append((_FASTEST_FIRST.index(plan.precision), path, plan))
    if not fitting:
        what = "; ".join(unfit) or f"there is none in {folder / PLANS_FOLDER}"
        raise EngineNotHereError(
            f"no TensorRT plan of {manifest.version} fits compute capability {machine.compute_capability} and TensorRT "
            f"{machine.tensorrt}: {what}. {_BUILD}."
        )
    _, path, plan = min(fitting, key=lambda entry: entry[:2])
    return EnginePlan(path, plan, _verified(path, plan, manifest))


def verified_plans(folder: Path, manifest: Manifest) -> list[tuple[Path, PlanManifest]]:
    """Return every plan of an artefact, after comparing it with its own manifest and the artefact's; needs no GPU.

    Raises:
        ContractError: A plan is damaged, or belongs to another model.
    """
    plans = list(_plans(folder))
    for path, plan in plans:
        _verified(path, plan, manifest)
    return plans


def _plans(folder: Path) -> Iterator[tuple[Path, PlanManifest]]:
    """Yield the artefact's plans by name; a file without a manifest is unfinished and skipped."""
    for path in sorted((folder / PLANS_FOLDER).glob(f"*{PLAN_SUFFIX}.json")):
        content = path.read_bytes()
        try:
            number = msgspec.json.decode(content, type=_Format).format
            if number > PLAN_FORMAT:
                raise ContractError(
                    f"{path} has format {number}, this release reads up to {PLAN_FORMAT}: the plan is too new. Operator "
                    "action: deploy the release that it was built with, or remove the plan and its manifest and build it again "
                    "with this one."
                )
            yield path.with_suffix(""), msgspec.json.decode(content, type=PlanManifest)
        except msgspec.MsgspecError as error:
            raise ContractError(
                f"{path} is no valid manifest of a plan: {error}. Operator action: remove it with its plan, and build that "
                "again: `python -m trt_build engine`."
            ) from error


def _verified(path: Path, plan: PlanManifest, manifest: Manifest) -> bytes:
    """Return the plan's bytes, after its model and its hash have been compared with both manifests."""
    rebuild = f"Operator action: build it again: {plan.command}; model.engine = 'onnxruntime' serves without it"
    if plan.model_sha256 != manifest.sha256.get(MODEL_FILE) or plan.catalogue_hash != manifest.catalogue_hash:
        raise ContractError(
            f"{path} was built from the model {plan.model_version} ({plan.model_sha256[:_HASH_SHOWN]}, catalogue "
            f"{plan.catalogue_hash[:_HASH_SHOWN]}), it lies beside {manifest.version} "
            f"({manifest.sha256.get(MODEL_FILE, 'no hash')[:_HASH_SHOWN]}, catalogue {manifest.catalogue_hash[:_HASH_SHOWN]}). "
            f"{rebuild}."
        )
    return bytes_of_hash(path, plan.sha256, f"{rebuild}.")
