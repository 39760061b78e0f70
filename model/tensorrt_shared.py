"""What of TensorRT both who builds plans and who runs them use, for releases 10 and 11 alike.

Each adds its own to it (`trt_build/engine/tensorrt_protocols.py`, `stream_app/inference/engines/tensorrt_protocols.py`). Every
function that touches TensorRT is
annotated with these protocols, so mypy finds a use that does not stand here. A test compares each member with the real bindings:
names, parameters, settable attributes (tests/integration). What only one of the two releases has does not stand here. The
docstring of a protocol begins with the name of the class that it describes.

Sources: the docstrings of `tensorrt_bindings` 10.15.1 and 11.4.0.
"""

# ruff: noqa: D102 (what a method does stands in NVIDIA's documentation; this file says which there are)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

__all__ = ["ExecutionContext", "Logger", "PlanRuntime", "SharedEngine", "SharedTensorRt"]

_Engine_co = TypeVar("_Engine_co", covariant=True)


class Logger(Protocol):
    """`ILogger`, which we derive from: TensorRT calls `log`."""

    def log(self, severity: Any, msg: str) -> None: ...  # noqa: ANN401


class ExecutionContext(Protocol):
    """`IExecutionContext`."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...
    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def execute_async_v3(self, stream_handle: int) -> bool: ...


class SharedEngine(Protocol):
    """`ICudaEngine`."""

    @property
    def num_io_tensors(self) -> int: ...
    @property
    def num_optimization_profiles(self) -> int: ...
    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_mode(self, name: str) -> Any: ...  # noqa: ANN401
    def get_tensor_dtype(self, name: str) -> Any: ...  # noqa: ANN401
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Sequence[Sequence[int]]: ...


class PlanRuntime(Protocol[_Engine_co]):
    """`Runtime`."""

    engine_host_code_allowed: bool

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> _Engine_co | None: ...


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


class SharedTensorRt(Protocol[_Engine_co]):
    """The module: a constructor, enumerations, and a class to derive from."""

    __version__: str
    ILogger: type[Any]

    TensorIOMode: TensorIOMode
    DataType: DataType

    def Runtime(self, logger: Logger) -> PlanRuntime[_Engine_co]: ...  # noqa: N802
