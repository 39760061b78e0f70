"""What of TensorRT is used to build, refit, verify and inspect plans, beside `model/tensorrt_shared.py`: all, and nothing else.

A test compares each member with the real bindings (tests/integration/trt_build).
"""

# ruff: noqa: D102 (what a method does stands in NVIDIA's documentation; this file says which there are)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from model import tensorrt_shared
from model.tensorrt_shared import ExecutionContext, Logger

__all__ = [
    "BuilderConfig",
    "BuiltEngine",
    "Network",
    "Parser",
    "ParserRefitter",
    "PlanBuilder",
    "Profile",
    "ProgressMonitor",
    "TensorRtBuilder",
]


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
    @property
    def num_outputs(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    def get_input(self, index: int) -> NetworkTensor: ...
    def get_output(self, index: int) -> NetworkTensor: ...


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


class BuiltEngine(tensorrt_shared.SharedEngine, Protocol):
    """`ICudaEngine`."""

    @property
    def num_layers(self) -> int: ...
    @property
    def refittable(self) -> bool: ...
    def create_execution_context(self) -> ExecutionContext | None: ...
    def create_engine_inspector(self) -> EngineInspector: ...
    def create_serialization_config(self) -> SerializationConfig: ...
    def serialize_with_config(self, config: SerializationConfig, /) -> HostMemory | None: ...


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


class BuildSeverity(tensorrt_shared.Severity, Protocol):
    """`ILogger.Severity`, an enumeration."""

    WARNING: Any


class TensorRtBuilder(tensorrt_shared.SharedTensorRt[BuiltEngine], Protocol):
    """The module: constructors, enumerations, and two classes to derive from."""

    IProgressMonitor: type[Any]

    NetworkDefinitionCreationFlag: NetworkDefinitionCreationFlag
    BuilderFlag: BuilderFlag
    MemoryPoolType: MemoryPoolType
    HardwareCompatibilityLevel: HardwareCompatibilityLevel
    ProfilingVerbosity: ProfilingVerbosity
    LayerInformationFormat: LayerInformationFormat
    SerializationFlag: SerializationFlag

    def Builder(self, logger: Logger) -> PlanBuilder: ...  # noqa: N802
    def OnnxParser(self, network: Network, logger: Logger) -> Parser: ...  # noqa: N802
    def Refitter(self, engine: BuiltEngine, logger: Logger) -> WeightRefitter: ...  # noqa: N802
    def OnnxParserRefitter(self, refitter: WeightRefitter, logger: Logger) -> ParserRefitter: ...  # noqa: N802
