"""A plan and an ONNX file of new weights in, the plan with those weights out: seconds instead of a build.

For daily trainings: the network and its sizes stay, the weights change. The file must have the plan's structure and precision.
An int8 plan is refused, because the ranges of its activations belong to the weights of its calibration.
"""

from __future__ import annotations

import time

from model.plan import PlanManifest
from model.tensorrt.library import collect_messages
from model.tensorrt.protocols import TensorRt
from trt_build.engine.engine_from_onnx import BuiltPlan, parser_errors
from trt_build.engine.plan_runner import engine_of
from trt_build.errors import BuildError, RefusedError
from trt_build.manifest import OnnxManifest

_NAMES_IN_ERROR = 5


def check_refit(plan: PlanManifest, weights: OnnxManifest) -> None:
    """Check that the weights of an ONNX file can go into a plan. Needs no GPU.

    Raises:
        RefusedError: The weights cannot; the message gives the reason.
    """
    if not plan.refittable:
        raise RefusedError("the plan's weights are fixed. Fix: build it once with --refittable, then refit that one")
    if plan.precision == "int8":
        raise RefusedError("an int8 plan carries ranges that belong to its weights. Fix: calibrate and build again, or use fp16")
    if plan.precision != weights.precision and {plan.precision, weights.precision} != {"fp32", "tf32"}:
        raise RefusedError(
            f"the plan is {plan.precision}, the file {weights.precision}. Fix: make it with --precision {plan.precision}"
        )
    if plan.structure_sha256 != weights.structure_sha256:
        raise RefusedError(
            f"the file's structure is {weights.structure_sha256[:12]}, the plan's {plan.structure_sha256[:12]}: "
            "another network, other sizes, or another version of the exporter. Fix: build a new plan"
        )
    if plan.catalogue_hash != weights.catalogue_hash:
        raise RefusedError(
            f"the file's feature catalogue is {weights.catalogue_hash or 'none'}, the plan's "
            f"{plan.catalogue_hash or 'none'}. Fix: train "
            "with this release's features, or build a new plan"
        )


def plan_from_refit(trt: TensorRt, plan: bytes, manifest: PlanManifest, model: bytes) -> BuiltPlan:
    """Return the plan with the weights of the ONNX file `model`; `check_refit` must have passed.

    Raises:
        BuildError: TensorRT rejects the weights; the message names them.
    """
    started = time.perf_counter()
    messages = collect_messages(trt)
    engine = engine_of(trt, plan, version_compatible=manifest.version_compatible)
    refitter = trt.Refitter(engine, messages.logger)
    parser = trt.OnnxParserRefitter(refitter, messages.logger)
    if not parser.refit_from_bytes(model):
        raise BuildError(f"the weights do not fit: {'; '.join(parser_errors(parser) or messages.errors)}. Fix: build a new plan")
    missing = list(refitter.get_missing_weights())
    if missing or not refitter.refit_cuda_engine():
        more = f" and {len(missing) - _NAMES_IN_ERROR} more" if len(missing) > _NAMES_IN_ERROR else ""
        names = ", ".join(missing[:_NAMES_IN_ERROR]) + more
        raise BuildError(f"weights are missing: {names or '; '.join(messages.errors)}. Fix: build a new plan")
    config = engine.create_serialization_config()
    config.set_flag(trt.SerializationFlag.INCLUDE_REFIT)  # so that tomorrow's weights can go into it
    content = engine.serialize_with_config(config)
    if content is None:
        raise BuildError(f"the plan cannot be written: {'; '.join(messages.errors)}. Fix: build a new one")
    return BuiltPlan(bytes(content), time.perf_counter() - started)
