"""A GPU and a TensorRT that are not there: what needs a device, and nothing else.

Work that is put on a stream runs later, when somebody looks: at each look a seeded draw decides which stream goes on, so an order
that no event guarantees is found out sooner or later. Memory is the host's, poisoned when it is made. The network itself is the
real one, by ONNX Runtime.
"""

from __future__ import annotations

import ctypes
import random
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from model.contract import INPUTS, OUTPUTS, TensorSpec
from model.plan import PlanProfile
from stream_app.errors import EngineLostError
from stream_app.inference.engines.cuda_runtime import CudaRuntime
from stream_app.inference.engines.onnx_scorer import OnnxScorer
from stream_app.inference.engines.tensors import shape_of

Operation = Callable[[], bool]  # whether it was done; it is tried again if not

POISON = 0xA5


class FakeDevice(CudaRuntime):
    """See `stream_app.inference.engines.cuda_runtime.CudaRuntime`."""

    def __init__(self, seed: int = 0, memory: int = 1 << 30) -> None:
        self.log: list[str] = []  # what was put on a stream
        self.looks: list[int] = []  # how long the log was at each look at an event
        self.hung = False
        self.fails: EngineLostError | None = None
        self.lost: EngineLostError | None = None  # what every call that gives something back answers from now on
        self._draw = random.Random(seed)
        self._free = memory
        self._memory: dict[int, Any] = {}
        self._handles = iter(range(1, 1_000_000))
        self._streams: dict[int, deque[Operation]] = {}
        self._recorded: dict[int, int] = {}  # event -> how often it was recorded
        self._happened: dict[int, int] = {}  # event -> the last of these that has happened
        self._graphs: dict[int, list[Operation]] = {}
        self._capturing: tuple[int, list[Operation]] | None = None

    # --- memory

    def device_memory(self, size: int) -> int:
        if size > self._free:
            raise EngineLostError("out_of_memory", "cudaMalloc: CUDA error 2, out of memory")
        self._free -= size
        return self._allocate(size)

    def pinned_memory(self, size: int) -> int:
        return self._allocate(size)

    def _allocate(self, size: int) -> int:
        memory = (ctypes.c_ubyte * (size + 256))()
        ctypes.memset(memory, POISON, size + 256)
        address = (ctypes.addressof(memory) + 255) // 256 * 256
        self._memory[address] = memory
        return address

    def free_device_memory(self, address: int) -> None:
        self._must_answer()
        del self._memory[address]

    def free_pinned_memory(self, address: int) -> None:
        self._must_answer()
        del self._memory[address]

    def _must_answer(self) -> None:
        if self.lost is not None:
            raise self.lost

    # --- streams, events, graphs

    def stream(self) -> int:
        handle = next(self._handles)
        self._streams[handle] = deque()
        return handle

    def free_stream(self, stream: int) -> None:
        self._must_answer()
        del self._streams[stream]

    def event(self) -> int:
        handle = next(self._handles)
        self._recorded[handle] = self._happened[handle] = 0
        return handle

    def free_event(self, event: int) -> None:
        self._must_answer()
        del self._recorded[event]

    def record(self, event: int, stream: int) -> None:
        self._recorded[event] += 1
        number = self._recorded[event]

        def happen() -> bool:
            self._happened[event] = number
            return True

        self.put(stream, happen, "record")

    def wait(self, stream: int, event: int) -> None:
        number = self._recorded[event]
        self.put(stream, lambda: self._happened[event] >= number, "wait")

    def happened(self, event: int) -> bool:
        self.looks.append(len(self.log))
        if not self.hung:
            self._go_on()
        return self._happened[event] >= self._recorded[event]

    def finish(self, stream: int) -> None:
        while self._streams[stream]:
            self._go_on()

    def idle(self, stream: int) -> bool:
        self._must_answer()
        if not self.hung:
            self._go_on()
        return not self._streams[stream]

    def copy_in(self, device: int, host: int, size: int, stream: int) -> None:
        self._copy(device, host, size, stream, "copy_in")

    def copy_out(self, host: int, device: int, size: int, stream: int) -> None:
        self._copy(host, device, size, stream, "copy_out")

    def _copy(self, target: int, source: int, size: int, stream: int, what: str) -> None:
        def copy() -> bool:
            ctypes.memmove(target, source, size)
            return True

        self.put(stream, copy, what)

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        assert not self._streams[stream], "work is pending on a stream that is to be captured"
        self._capturing = stream, []
        try:
            work()
        finally:
            (_, operations), self._capturing = self._capturing, None
        handle = next(self._handles)
        self._graphs[handle] = operations
        return handle

    @property
    def captures(self) -> bool:
        return self._capturing is not None

    def launch(self, graph: int, stream: int) -> None:
        if self.fails is not None:
            raise self.fails
        for operation in self._graphs[graph]:
            self.put(stream, operation, "launch")

    def free_graph(self, graph: int) -> None:
        self._must_answer()
        del self._graphs[graph]

    def put(self, stream: int, operation: Operation, what: str) -> None:
        if self._capturing is not None:
            assert self._capturing[0] == stream, "work of another stream in a capture"
            self._capturing[1].append(operation)
            return
        self.log.append(what)
        self._streams[stream].append(operation)

    def _go_on(self) -> None:
        """Let one stream, drawn at random, do one thing; those that wait for an event are passed over."""
        busy = [queue for queue in self._streams.values() if queue]
        self._draw.shuffle(busy)
        for queue in busy:
            if queue[0]():
                queue.popleft()
                return
        assert not busy, "no stream can go on"

    def left(self) -> dict[str, int]:
        """What was not given back."""
        kinds = {"memory": self._memory, "streams": self._streams, "events": self._recorded, "graphs": self._graphs}
        return {kind: len(things) for kind, things in kinds.items() if things}


class FakeTensorRt:
    """The module, with an engine for one artefact and these profiles. `refuses`: an error that it logs instead of loading."""

    __version__ = "10.15.1.29"

    def __init__(self, device: FakeDevice, folder: Path, profiles: Sequence[PlanProfile]) -> None:
        self.device = device
        self.network = OnnxScorer(folder)
        self.profiles = list(profiles)
        self.specs: list[TensorSpec] = [*INPUTS, *OUTPUTS]
        self.refuses = ""
        self.scratch = 4096
        self.contexts: list[FakeContext] = []
        self.DataType = SimpleNamespace(FLOAT="FLOAT", INT32="INT32")
        self.TensorIOMode = SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT")
        self.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="USER_MANAGED")

        class ILogger:
            Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)

        self.ILogger = ILogger

    def Runtime(self, logger: Any) -> FakeRuntime:
        return FakeRuntime(self, logger)

    @property
    def features(self) -> int:
        return len(self.network.manifest.feature_names)


class FakeRuntime:
    def __init__(self, trt: FakeTensorRt, logger: Any) -> None:
        self._trt, self._logger = trt, logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> FakeEngine | None:
        if self._trt.refuses:
            self._logger.log(1, self._trt.refuses)
            return None
        assert serialized_engine == b"a plan"
        return FakeEngine(self._trt)


class FakeEngine:
    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt
        self._specs = {spec.name: spec for spec in trt.specs}
        self.num_io_tensors = len(trt.specs)
        self.num_optimization_profiles = len(trt.profiles)
        self.device_memory_size_v2 = trt.scratch

    def get_tensor_name(self, index: int) -> str:
        return self._trt.specs[index].name

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if self._specs[name] in INPUTS else "OUTPUT"

    def get_tensor_dtype(self, name: str) -> str:
        return {"float32": "FLOAT", "int32": "INT32"}[self._specs[name].dtype]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *shape_of(self._specs[name], self._trt.features))

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        profile, rest = self._trt.profiles[profile_index], shape_of(self._specs[name], self._trt.features)
        return [(rows, *rest) for rows in (profile.min, profile.opt, profile.max)]

    def create_execution_context(self, strategy: Any) -> FakeContext:
        assert strategy == "USER_MANAGED"
        self._trt.contexts.append(FakeContext(self._trt))
        return self._trt.contexts[-1]


class FakeContext:
    """Computes with the real network, from and to the addresses it was given, in the order of its stream."""

    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self.scratch: int | None = None
        self._has_run = False
        self.profile: int | None = None
        self.stream: int | None = None

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        assert size >= self._trt.scratch
        self.scratch = memory

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self.profile, self.stream = profile_index, stream_handle
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        assert self.profile is not None, "a shape before a profile"
        self._shapes[name] = tuple(shape)
        return self._trt.profiles[self.profile].min <= shape[0] <= self._trt.profiles[self.profile].max

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory % 256 == 0
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._trt.device.captures and not self._has_run:
            return False  # what a first run does cannot be captured
        assert self.scratch is not None
        assert stream_handle == self.stream, "scratch memory is shared by one stream only"
        assert len(self._addresses) == len(INPUTS) + len(OUTPUTS)
        self._has_run = True
        self._trt.device.put(stream_handle, self._compute, "execute")
        return True

    def _compute(self) -> bool:
        rows = self._shapes[INPUTS[0].name][0]
        answers = self._trt.network.score({spec.name: self._view(spec, rows) for spec in INPUTS})
        for spec in OUTPUTS:
            self._view(spec, rows)[...] = answers[spec.name]
        return True

    def _view(self, spec: TensorSpec, rows: int) -> Any:
        shape = (rows, *shape_of(spec, self._trt.features))
        size = int(np.prod(shape)) * np.dtype(spec.dtype).itemsize
        memory = memoryview((ctypes.c_ubyte * size).from_address(self._addresses[spec.name])).cast("B")
        return np.frombuffer(memory, np.dtype(spec.dtype)).reshape(shape)
