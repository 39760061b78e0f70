"""A stand-in for TensorRT where a device would be needed: it reads real ONNX files and writes down what it is asked.

Its plans are JSON. `tests/integration/trt_build` checks the real library's interface; a test here checks that this has no more.
"""

from __future__ import annotations

import enum
import json
from types import SimpleNamespace
from typing import Any, cast

import onnx

from model.tensorrt.protocols import TensorRt
from trt_build.engine.runtime import GpuDevice

DEVICE = GpuDevice("NVIDIA Double 9000", "9.0")


class Flags(enum.Enum):
    TF32 = enum.auto()
    REFIT = enum.auto()
    VERSION_COMPATIBLE = enum.auto()


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


class ILogger:
    Severity = Severity

    def __init__(self) -> None: ...


class IProgressMonitor:
    def __init__(self) -> None: ...


class Double:
    """The module. `parse_errors` are (operator, layer, what) of its parser; `build_errors` are said instead of building."""

    def __init__(self, version: str = "10.15.1.29") -> None:
        self.__version__ = version
        self.parse_errors: list[tuple[str, str, str]] = []
        self.build_errors: list[str] = []
        self.missing_weights: list[str] = []
        self.caches: list[bytes] = []  # with which builds began
        self.stale_caches = False
        self.ILogger, self.IProgressMonitor = ILogger, IProgressMonitor
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.BuilderFlag = Flags
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
        self.HardwareCompatibilityLevel = SimpleNamespace(AMPERE_PLUS="ampere_plus")
        self.ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
        self.LayerInformationFormat = SimpleNamespace(JSON="json")
        self.TensorIOMode = SimpleNamespace(INPUT="input")
        self.SerializationFlag = SimpleNamespace(INCLUDE_REFIT="include_refit")
        self.DataType = SimpleNamespace(FLOAT=1, INT32=6)

    def Builder(self, logger: Any) -> Builder:
        return Builder(self, logger)

    def OnnxParser(self, network: Network, logger: Any) -> Parser:
        return Parser(self, network)

    def Runtime(self, logger: Any) -> Runtime:
        return Runtime(self, logger)

    def Refitter(self, engine: Engine, logger: Any) -> WeightRefitter:
        return WeightRefitter(self, engine)

    def OnnxParserRefitter(self, refitter: WeightRefitter, logger: Any) -> ParserRefitter:
        return ParserRefitter(self, refitter)

    def api(self) -> TensorRt:
        return cast(TensorRt, self)


class Network:
    def __init__(self, flags: int) -> None:
        self.model = onnx.ModelProto()
        self.strongly_typed = bool(flags & (1 << 1))

    @property
    def num_inputs(self) -> int:
        return len(self.model.graph.input)

    def get_input(self, index: int) -> Any:
        return _tensor(self.model.graph.input[index])


class Config:
    def __init__(self, trt: Double) -> None:
        self._trt = trt
        self.flags = {Flags.TF32}  # on by default, as in the real one
        self.profiles: list[Profile] = []
        self.workspace = self.builder_optimization_level = 0
        self.profiling_verbosity = self.hardware_compatibility_level = ""
        self.progress_monitor: Any = None
        self.cache: bytes | None = None

    def set_flag(self, flag: Flags) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: Flags) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self.workspace = pool_size

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        return Cache(serialized_timing_cache)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        if cache.content and self._trt.stale_caches:
            return False
        self.cache = cache.content
        return True

    def get_timing_cache(self) -> Cache:
        return Cache((self.cache or b"") + b"measured ")


class Cache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, Any, Any]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002 (as TensorRT names them)
        self.shapes[input] = (min, opt, max)


class Builder:
    def __init__(self, trt: Double, logger: Any) -> None:
        self._trt, self._logger = trt, logger

    def create_network(self, flags: int) -> Network:
        return Network(flags)

    def create_builder_config(self) -> Config:
        return Config(self._trt)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        for text in self._trt.build_errors:
            self._logger.log(Severity.ERROR, text)
        if self._trt.build_errors:
            return None
        self._trt.caches.append(config.cache or b"")
        config.progress_monitor.phase_start("Building", None, 1)
        config.progress_monitor.step_complete("Building", 0)
        config.progress_monitor.phase_finish("Building")
        about = {
            "strongly_typed": network.strongly_typed,
            "flags": sorted(flag.name for flag in config.flags),
            "level": config.builder_optimization_level,
            "hardware": config.hardware_compatibility_level,
            "workspace": config.workspace,
            "profiles": [profile.shapes for profile in config.profiles],
            "inputs": {value.name: list(_tensor(value).shape) for value in network.model.graph.input},
            "outputs": [value.name for value in network.model.graph.output],
            "weights": {weight.name: len(weight.raw_data) for weight in network.model.graph.initializer},
            "version": self._trt.__version__,
        }
        return json.dumps(about).encode()


class Parser:
    def __init__(self, trt: Double, network: Network) -> None:
        self._trt, self._network = trt, network

    @property
    def num_errors(self) -> int:
        return len(self._trt.parse_errors)

    def parse(self, model: bytes) -> bool:
        self._network.model = onnx.load_model_from_string(model)
        return not self._trt.parse_errors

    def get_error(self, index: int) -> Any:
        return ParserError(*self._trt.parse_errors[index])


class ParserError:
    def __init__(self, operator: str, node: str, what: str) -> None:
        self._operator, self._node, self._what = operator, node, what

    def desc(self) -> str:
        return self._what

    def node_name(self) -> str:
        return self._node

    def node_operator(self) -> str:
        return self._operator


class Runtime:
    def __init__(self, trt: Double, logger: Any) -> None:
        self._trt, self._logger = trt, logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        about = json.loads(serialized_engine)
        needs_code = "VERSION_COMPATIBLE" in about["flags"] and not self.engine_host_code_allowed
        if about["version"] != self._trt.__version__ or needs_code:
            self._logger.log(Severity.ERROR, "the plan is of another version, or its code may not run")
            return None
        return Engine(self._trt, about)


class Engine:
    def __init__(self, trt: Double, about: dict[str, Any]) -> None:
        self._trt, self.about = trt, about
        self._names = [*about["inputs"], *about["outputs"]]
        self.num_io_tensors, self.num_layers = len(self._names), 3
        self.num_optimization_profiles = len(about["profiles"])

    def get_tensor_name(self, index: int) -> str:
        return str(self._names[index])

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name in self.about["inputs"] else "output"

    def get_tensor_dtype(self, name: str) -> int:
        return 1

    def get_tensor_shape(self, name: str) -> Any:
        return self.about["inputs"].get(name, [-1])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Any:
        return self.about["profiles"][profile_index][name]

    def create_engine_inspector(self) -> Any:
        return EngineInspector("Bindings" if self._trt.__version__.startswith("10.") else "I/O Tensors", self._names)

    def create_serialization_config(self) -> Any:
        return SerializationConfig()

    def serialize_with_config(self, config: SerializationConfig, /) -> bytes | None:
        assert config.flags == ["include_refit"]
        return json.dumps(self.about).encode()


class EngineInspector:
    def __init__(self, key: str, names: list[str]) -> None:
        self._key, self._names = key, names

    def get_engine_information(self, format: Any) -> str:  # noqa: A002
        layers = [{"Name": f"layer {n}", "LayerType": "gemm" if n else "Reformat"} for n in range(3)]
        return json.dumps({"Layers": layers, self._key: self._names})


class SerializationConfig:
    def __init__(self) -> None:
        self.flags: list[str] = []

    def set_flag(self, flag: str) -> bool:
        self.flags.append(flag)
        return True


class WeightRefitter:
    def __init__(self, trt: Double, engine: Engine) -> None:
        self._trt, self.engine = trt, engine

    def get_missing_weights(self) -> list[str]:
        return self._trt.missing_weights

    def refit_cuda_engine(self) -> bool:
        return True


class ParserRefitter:
    def __init__(self, trt: Double, refitter: WeightRefitter) -> None:
        self._trt, self._refitter = trt, refitter

    @property
    def num_errors(self) -> int:
        return len(self._trt.parse_errors)

    def get_error(self, index: int) -> Any:
        return ParserError(*self._trt.parse_errors[index])

    def refit_from_bytes(self, model: bytes) -> bool:
        self._refitter.engine.about["refitted"] = len(model)
        return not self._trt.parse_errors


def _tensor(value: onnx.ValueInfoProto) -> Any:
    shape = [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim]
    return SimpleNamespace(name=value.name, shape=shape)
