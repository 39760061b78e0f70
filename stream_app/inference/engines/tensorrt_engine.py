"""A loaded TensorRT plan: tensors compared with the contract, and execution contexts for batches of fixed size.

TensorRT is imported when a plan is opened. Without a driver the library does not raise but ends the process, so make a
`CudaRuntime` first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from model.contract import INPUTS, OUTPUTS, TensorSpec
from model.tensorrt.library import collect_messages, import_tensorrt
from model.tensorrt.protocols import ExecutionContext, PlanEngine, TensorRt
from stream_app.errors import ContractError, EngineLostError, EngineNotHereError
from stream_app.inference.engines.plans import EnginePlan
from stream_app.inference.engines.tensors import shape_of

log = logging.getLogger(__name__)


def load_tensorrt() -> TensorRt:
    """Return the module.

    Raises:
        EngineNotHereError: It is not installed, or its shared libraries are missing.
    """
    try:
        return import_tensorrt()
    except ImportError as error:
        raise EngineNotHereError(
            f"TensorRT cannot be imported ({error}). Operator action: pip install 'millrace[gpu]' (the libraries come from "
            "NVIDIA's index: --extra-index-url https://pypi.nvidia.com), or set model.engine to 'auto' or 'onnxruntime'."
        ) from error


class LoadedPlan:
    """An engine with its inputs and outputs.

    Attributes:
        scratch_bytes: Memory on the GPU for a running context; contexts that never run at once share one piece.
    """

    def __init__(self, trt: TensorRt, plan: EnginePlan, features: int) -> None:
        """Load a plan that fits, of a model with `features` dense features; takes seconds.

        Raises:
            ContractError: TensorRT rejects the plan, or its tensors or profiles differ from contract and manifest.
        """
        self._trt = trt
        self._plan = plan
        self._messages = collect_messages(trt, lambda error: log.error("TensorRT: %s", error))
        self._runtime = trt.Runtime(self._messages.logger)
        if plan.manifest.version_compatible:
            self._runtime.engine_host_code_allowed = True  # such a plan carries its own runtime code; its checksum was compared
        engine = self._runtime.deserialize_cuda_engine(plan.content)
        if engine is None:
            if any("out of memory" in error.lower() for error in self._messages.errors):
                raise EngineLostError("out_of_memory", f"TensorRT cannot load {plan.path}: {self._messages.text()}")
            raise ContractError(
                f"{plan.path} cannot be loaded by TensorRT {trt.__version__}: {self._messages.text()}. Operator action: build "
                f"it again on this machine: {plan.manifest.command}; model.engine = 'onnxruntime' serves without it."
            )
        self._engine: PlanEngine = engine
        self._features = features
        self._check_tensors()
        self.scratch_bytes = int(engine.device_memory_size_v2)

    def context(self, rows: int, addresses: Mapping[str, int], scratch: int, stream: int) -> ExecutionContext:
        """Make a context that computes `rows` rows (within a profile) on a stream, from and to a fixed address of every tensor.

        `scratch` is the address of `scratch_bytes` on the GPU.

        Raises:
            EngineLostError: TensorRT cannot make the context.
        """
        context = self._engine.create_execution_context(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise EngineLostError(
                "out_of_memory", f"TensorRT gives no execution context for {rows} rows: {self._messages.text()}"
            )
        context.set_device_memory(scratch, self.scratch_bytes)
        done = context.set_optimization_profile_async(self._profile_for(rows), stream)
        for spec in INPUTS:
            done = done and context.set_input_shape(spec.name, (rows, *shape_of(spec, self._features)))
        for name, address in addresses.items():
            done = done and context.set_tensor_address(name, address)
        if not done:
            raise EngineLostError("device_lost", f"TensorRT refuses to be set up for {rows} rows: {self._messages.text()}")
        return context

    def run(self, context: ExecutionContext, stream: int) -> None:
        """Put the context's work on a stream.

        Raises:
            EngineLostError: TensorRT refused.
        """
        if not context.execute_async_v3(stream):
            raise EngineLostError("device_lost", f"TensorRT does not run: {self._messages.text()}")

    def _profile_for(self, rows: int) -> int:
        """Return the profile with `rows` in its range whose tuned size is closest."""
        profiles = self._plan.manifest.profiles
        fitting = [number for number, profile in enumerate(profiles) if profile.min <= rows <= profile.max]
        return min(fitting, key=lambda number: abs(profiles[number].opt - rows))

    def _check_tensors(self) -> None:
        trt, engine = self._trt, self._engine
        dtypes = {trt.DataType.FLOAT: "float32", trt.DataType.INT32: "int32"}
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        actual = {
            name: (
                engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
                dtypes.get(engine.get_tensor_dtype(name), str(engine.get_tensor_dtype(name))),
                tuple(engine.get_tensor_shape(name))[1:],
            )
            for name in names
        }
        expected = {**self._expected(INPUTS, is_input=True), **self._expected(OUTPUTS, is_input=False)}
        batches = [
            tuple(int(shape[0]) for shape in engine.get_tensor_profile_shape(INPUTS[0].name, number))
            for number in range(engine.num_optimization_profiles if actual == expected else 0)
        ]
        if actual != expected or batches != [(p.min, p.opt, p.max) for p in self._plan.manifest.profiles]:
            raise ContractError(
                f"{self._plan.path} has the tensors (input, type, shape) {actual} and batches {batches}, the contract says "
                f"{expected}, its manifest {self._plan.manifest.profiles}. Operator action: build it again with this release: "
                f"{self._plan.manifest.command}; model.engine = 'onnxruntime' serves without it."
            )

    def _expected(self, specs: tuple[TensorSpec, ...], *, is_input: bool) -> dict[str, tuple[bool, str, tuple[int, ...]]]:
        return {spec.name: (is_input, spec.dtype, shape_of(spec, self._features)) for spec in specs}
