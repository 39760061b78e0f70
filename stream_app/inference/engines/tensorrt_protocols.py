"""What of TensorRT a worker uses, beside `model/tensorrt_shared.py`: all of it, and nothing else.

A test compares each member with the real bindings (tests/integration/inference).
"""

# ruff: noqa: D102 (what a method does stands in NVIDIA's documentation; this file says which there are)

from __future__ import annotations

from typing import Any, Protocol

from model import tensorrt_shared

__all__ = ["RuntimeContext", "RuntimeEngine", "TensorRtRuntime"]


class RuntimeContext(tensorrt_shared.ExecutionContext, Protocol):
    """`IExecutionContext`."""

    def set_device_memory(self, memory: int, size: int) -> None: ...


class RuntimeEngine(tensorrt_shared.SharedEngine, Protocol):
    """`ICudaEngine`."""

    @property
    def device_memory_size_v2(self) -> int: ...
    def create_execution_context(self, strategy: Any) -> RuntimeContext | None: ...  # noqa: ANN401


class ExecutionContextAllocationStrategy(Protocol):
    """`ExecutionContextAllocationStrategy`, an enumeration."""

    USER_MANAGED: Any


class TensorRtRuntime(tensorrt_shared.SharedTensorRt[RuntimeEngine], Protocol):
    """The module: what a worker alone uses of it."""

    ExecutionContextAllocationStrategy: ExecutionContextAllocationStrategy
