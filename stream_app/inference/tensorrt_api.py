"""What of TensorRT a worker uses: all of it, and nothing else, for releases 10 and 11 alike.

A test compares each member with the real bindings (tests/integration). A protocol's docstring begins with the name of the class
that it describes.
"""

# ruff: noqa: D102 (what a method does stands in NVIDIA's documentation; this file says which there are)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ["Engine", "ExecutionContext", "Logger", "PlanRuntime", "TensorRt"]


class Logger(Protocol):
    """`ILogger`, which we derive from: TensorRT calls `log`."""

    def log(self, severity: Any, msg: str) -> None: ...  # noqa: ANN401


class ExecutionContext(Protocol):
    """`IExecutionContext`."""

    def set_device_memory(self, memory: int, size: int) -> None: ...
    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...
    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def execute_async_v3(self, stream_handle: int) -> bool: ...


class Engine(Protocol):
    """`ICudaEngine`."""

    @property
    def num_io_tensors(self) -> int: ...
    @property
    def num_optimization_profiles(self) -> int: ...
    @property
    def device_memory_size_v2(self) -> int: ...
    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_mode(self, name: str) -> Any: ...  # noqa: ANN401
    def get_tensor_dtype(self, name: str) -> Any: ...  # noqa: ANN401
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Sequence[Sequence[int]]: ...
    def create_execution_context(self, strategy: Any) -> ExecutionContext | None: ...  # noqa: ANN401


class PlanRuntime(Protocol):
    """`Runtime`."""

    engine_host_code_allowed: bool

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None: ...


class ExecutionContextAllocationStrategy(Protocol):
    """`ExecutionContextAllocationStrategy`, an enumeration."""

    USER_MANAGED: Any


class TensorIOMode(Protocol):
    """`TensorIOMode`, an enumeration."""

    INPUT: Any


class DataType(Protocol):
    """`DataType`, an enumeration."""

    FLOAT: Any
    INT32: Any


class Severity(Protocol):
    """`ILogger.Severity`, an enumeration."""

    INTERNAL_ERROR: Any
    ERROR: Any


class TensorRt(Protocol):
    """The module: a constructor, enumerations, and a class to derive from."""

    __version__: str
    ILogger: type[Any]

    ExecutionContextAllocationStrategy: ExecutionContextAllocationStrategy
    TensorIOMode: TensorIOMode
    DataType: DataType

    def Runtime(self, logger: Logger) -> PlanRuntime: ...  # noqa: N802
