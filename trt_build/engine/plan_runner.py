"""Run a TensorRT plan on a GPU, batch after batch, to verify and to time it. The worker has an engine of its own.

The plan reads and writes torch tensors on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.plan import PlanManifest
from model.tensorrt.library import collect_messages
from model.tensorrt.protocols import ExecutionContext, PlanEngine, TensorRt
from trt_build.errors import BuildError, RefusedError


def engine_of(trt: TensorRt, plan: bytes, *, version_compatible: bool) -> PlanEngine:
    """Deserialize a plan.

    Raises:
        RefusedError: Another release built it, it is for another GPU, or it is cut short.
    """
    messages = collect_messages(trt)
    runtime = trt.Runtime(messages.logger)
    if version_compatible:  # such a plan carries runtime code; its hash was compared
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise RefusedError(
            f"TensorRT {trt.__version__} does not take the plan: {messages.text()}. Fix: build it again on this machine, with "
            "this release"
        )
    return engine


class PlanRunner:
    """A plan with a context for each of its profiles."""

    def __init__(self, trt: TensorRt, plan: bytes, manifest: PlanManifest) -> None:
        self.manifest = manifest
        self._engine = engine_of(trt, plan, version_compatible=manifest.version_compatible)
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._contexts = [self._context(number) for number in range(self._engine.num_optimization_profiles)]
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self.inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.outputs = [name for name in names if name not in self.inputs]

    def score(self, rows: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Score all rows in batches of the largest profile's size; returns the outputs by name."""
        count, largest = len(next(iter(rows.values()))), self.manifest.profiles[-1].max
        parts = [self._batch({n: v[at : at + largest] for n, v in rows.items()}) for at in range(0, count, largest)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def prepare(self, rows: Mapping[str, NDArray[Any]]) -> tuple[int, ExecutionContext, dict[str, torch.Tensor]]:
        """Return a stream, a context with one batch of `rows` on the device, and its tensors, inputs and outputs.

        Raises:
            BuildError: No profile takes so many rows.
        """
        count = len(next(iter(rows.values())))
        fitting = [number for number, profile in enumerate(self.manifest.profiles) if profile.min <= count <= profile.max]
        if not fitting:
            raise BuildError(
                f"no profile takes {count} rows, the largest ends at {self.manifest.profiles[-1].max}; give fewer rows"
            )
        context = self._contexts[fitting[0]]
        tensors = {name: torch.from_numpy(np.ascontiguousarray(rows[name])).cuda() for name in self.inputs}
        for name, tensor in tensors.items():
            context.set_input_shape(name, tuple(tensor.shape))
        for name in self.outputs:
            shape = (count, *self._engine.get_tensor_shape(name)[1:])
            tensors[name] = torch.empty(shape, dtype=torch.float32, device="cuda")
        for name, tensor in tensors.items():
            context.set_tensor_address(name, tensor.data_ptr())
        torch.cuda.synchronize()  # the copies ran on another stream than the plan will
        return self._stream.cuda_stream, context, tensors

    def _batch(self, rows: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        stream, context, tensors = self.prepare(rows)
        if not context.execute_async_v3(stream):
            raise BuildError("the plan did not run; build it again on this machine")
        self._stream.synchronize()
        return {name: tensors[name].cpu().numpy() for name in self.outputs}

    def _context(self, profile: int) -> ExecutionContext:
        context = self._engine.create_execution_context()
        if context is None or not context.set_optimization_profile_async(profile, self._stream.cuda_stream):
            raise BuildError(f"the GPU has no room for a context of profile {profile}; free its memory or build smaller profiles")
        self._stream.synchronize()
        return context
