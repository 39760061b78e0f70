"""The part of TensorRT that the product uses, for releases 10 and 11 alike: to build, refit, inspect and run plans.

Every function that touches TensorRT is annotated with these protocols, so mypy finds a use that is missing here. A test compares
each member with the real bindings: names, parameters, settable attributes (tests/integration/trt_build). Members that only one
release has are left out. A protocol's docstring begins with the name of the class that it describes.

Sources: the docstrings of `tensorrt_bindings` 10.15.1 and 11.4.0.
"""

# ruff: noqa: D102 (NVIDIA's documentation describes the methods; this file lists them)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class TensorRtLogger(Protocol):
    """`ILogger`, which we derive from: TensorRT calls `log`."""

    def log(self, severity: Any, msg: str) -> None: ...  # noqa: ANN401


class ProgressMonitor(Protocol):
    """`IProgressMonitor`, which we derive from. Called on threads of the builder."""

    def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None: ...
    def step_complete(self, phase_name: str, step: int) -> bool: ...
    def phase_finish(self, phase_name: str) -> None: ...


class HostMemory(Protocol):
    """`IHostMemory`: `bytes(it)` copies it."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class Profile(Protocol):
    """`IOptimizationProfile`."""

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None: ...  # noqa: A002


class TimingCache(Protocol):
    """`ITimingCache`."""

    def serialize(self) -> HostMemory: ...


class BuilderConfig(Protocol):
    """`IBuilderConfig`."""

    builder_optimization_level: int
    hardware_compatibility_level: Any
    profiling_verbosity: Any
    progress_monitor: Any

    def set_flag(self, flag: Any) -> None: ...  # noqa: ANN401
    def clear_flag(self, flag: Any) -> None: ...  # noqa: ANN401
    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None: ...  # noqa: ANN401
    def add_optimization_profile(self, profile: Profile) -> int: ...
    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache: ...
    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool: ...
    def get_timing_cache(self) -> TimingCache: ...


class NetworkTensor(Protocol):
    """`ITensor`."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Sequence[int]: ...


class Network(Protocol):
    """`INetworkDefinition`."""

    @property
    def num_inputs(self) -> int: ...
    def get_input(self, index: int) -> NetworkTensor: ...


class PlanBuilder(Protocol):
    """`Builder`."""

    def create_network(self, flags: int) -> Network: ...
    def create_builder_config(self) -> BuilderConfig: ...
    def create_optimization_profile(self) -> Profile: ...
    def build_serialized_network(self, network: Network, config: BuilderConfig) -> HostMemory | None: ...


class ParserError(Protocol):
    """`ParserError`."""

    def desc(self) -> str: ...
    def node_name(self) -> str: ...
    def node_operator(self) -> str: ...


class Parser(Protocol):
    """`OnnxParser`."""

    @property
    def num_errors(self) -> int: ...
    def parse(self, model: bytes) -> bool: ...
    def get_error(self, index: int) -> ParserError: ...


class ParserRefitter(Protocol):
    """`OnnxParserRefitter`."""

    @property
    def num_errors(self) -> int: ...
    def refit_from_bytes(self, model: bytes) -> bool: ...
    def get_error(self, index: int) -> ParserError: ...


class WeightRefitter(Protocol):
    """`Refitter`."""

    def get_missing_weights(self) -> Sequence[str]: ...
    def refit_cuda_engine(self) -> bool: ...


class SerializationConfig(Protocol):
    """`ISerializationConfig`."""

    def set_flag(self, flag: Any) -> bool: ...  # noqa: ANN401


class EngineInspector(Protocol):
    """`EngineInspector`."""

    def get_engine_information(self, format: Any) -> str: ...  # noqa: A002, ANN401


class ExecutionContext(Protocol):
    """`IExecutionContext`."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...
    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool: ...
    def set_tensor_address(self, name: str, memory: int) -> bool: ...
    def set_device_memory(self, memory: int, size: int) -> None: ...
    def execute_async_v3(self, stream_handle: int) -> bool: ...


class PlanEngine(Protocol):
    """`ICudaEngine`."""

    @property
    def num_io_tensors(self) -> int: ...
    @property
    def num_optimization_profiles(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def device_memory_size_v2(self) -> int: ...
    def get_tensor_name(self, index: int) -> str: ...
    def get_tensor_mode(self, name: str) -> Any: ...  # noqa: ANN401
    def get_tensor_dtype(self, name: str) -> Any: ...  # noqa: ANN401
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Sequence[Sequence[int]]: ...
    def create_execution_context(self, strategy: Any = ...) -> ExecutionContext | None: ...  # noqa: ANN401
    def create_engine_inspector(self) -> EngineInspector: ...
    def create_serialization_config(self) -> SerializationConfig: ...
    def serialize_with_config(self, config: SerializationConfig, /) -> HostMemory | None: ...


class PlanRuntime(Protocol):
    """`Runtime`."""

    engine_host_code_allowed: bool

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> PlanEngine | None: ...


class TensorIOMode(Protocol):
    """`TensorIOMode`, an enumeration."""

    INPUT: Any


class DataType(Protocol):
    """`DataType`, an enumeration."""

    FLOAT: Any
    INT32: Any


class LogSeverity(Protocol):
    """`ILogger.Severity`, an enumeration."""

    INTERNAL_ERROR: Any
    ERROR: Any


class ExecutionContextAllocationStrategy(Protocol):
    """`ExecutionContextAllocationStrategy`, an enumeration."""

    USER_MANAGED: Any


class NetworkDefinitionCreationFlag(Protocol):
    """`NetworkDefinitionCreationFlag`, an enumeration."""

    STRONGLY_TYPED: Any


class BuilderFlag(Protocol):
    """`BuilderFlag`, an enumeration. Its numbers changed between releases; names are all that is used or kept."""

    TF32: Any
    REFIT: Any
    VERSION_COMPATIBLE: Any


class MemoryPoolType(Protocol):
    """`MemoryPoolType`, an enumeration."""

    WORKSPACE: Any


class HardwareCompatibilityLevel(Protocol):
    """`HardwareCompatibilityLevel`, an enumeration."""

    AMPERE_PLUS: Any


class ProfilingVerbosity(Protocol):
    """`ProfilingVerbosity`, an enumeration."""

    DETAILED: Any


class LayerInformationFormat(Protocol):
    """`LayerInformationFormat`, an enumeration."""

    JSON: Any


class SerializationFlag(Protocol):
    """`SerializationFlag`, an enumeration."""

    INCLUDE_REFIT: Any


class TensorRt(Protocol):
    """The module: constructors, enumerations, and two classes to derive from."""

    __version__: str
    ILogger: type[Any]
    IProgressMonitor: type[Any]

    TensorIOMode: TensorIOMode
    DataType: DataType
    ExecutionContextAllocationStrategy: ExecutionContextAllocationStrategy
    NetworkDefinitionCreationFlag: NetworkDefinitionCreationFlag
    BuilderFlag: BuilderFlag
    MemoryPoolType: MemoryPoolType
    HardwareCompatibilityLevel: HardwareCompatibilityLevel
    ProfilingVerbosity: ProfilingVerbosity
    LayerInformationFormat: LayerInformationFormat
    SerializationFlag: SerializationFlag

    def Runtime(self, logger: TensorRtLogger) -> PlanRuntime: ...  # noqa: N802
    def Builder(self, logger: TensorRtLogger) -> PlanBuilder: ...  # noqa: N802
    def OnnxParser(self, network: Network, logger: TensorRtLogger) -> Parser: ...  # noqa: N802
    def Refitter(self, engine: PlanEngine, logger: TensorRtLogger) -> WeightRefitter: ...  # noqa: N802
    def OnnxParserRefitter(self, refitter: WeightRefitter, logger: TensorRtLogger) -> ParserRefitter: ...  # noqa: N802
