"""The few calls of the CUDA runtime that scoring needs, by ctypes: no package has to be built for it, and none installed twice.

The library (`libcudart.so.12` or `.13`) comes with TensorRT's own wheel; the system's is taken if there is no such package.
Handles (streams, events, graphs) and addresses are plain integers. The functions below and their arguments are the same in CUDA
12 and 13.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Iterator
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any, Final, cast

from stream_app.errors import EngineLostError, EngineNotHereError

__all__ = ["FUNCTIONS", "CudaRuntime", "library_paths"]

_DRIVER: Final = "libcuda.so.1"
_SONAMES: Final = ("libcudart.so.13", "libcudart.so.12")
_NOT_READY: Final = 600  # cudaErrorNotReady
_OUT_OF_MEMORY: Final = 2  # cudaErrorMemoryAllocation
_NON_BLOCKING: Final = 1  # cudaStreamNonBlocking: no order with the default stream
_NO_TIMING: Final = 2  # cudaEventDisableTiming
_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_CAPTURE_THREAD_LOCAL: Final = 1  # cudaStreamCaptureModeThreadLocal: calls of other threads do not spoil a capture
_MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor, Minor

_OUT: Final = POINTER(c_void_p)
FUNCTIONS: Final[dict[str, tuple[Any, ...]]] = {
    "cudaGetDeviceCount": (POINTER(c_int),),
    "cudaDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cudaMalloc": (_OUT, c_size_t),
    "cudaFree": (c_void_p,),
    "cudaHostAlloc": (_OUT, c_size_t, c_uint),
    "cudaFreeHost": (c_void_p,),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaStreamCreateWithFlags": (_OUT, c_uint),
    "cudaStreamQuery": (c_void_p,),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaStreamDestroy": (c_void_p,),
    "cudaStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "cudaStreamBeginCapture": (c_void_p, c_int),
    "cudaStreamEndCapture": (c_void_p, _OUT),
    "cudaEventCreateWithFlags": (_OUT, c_uint),
    "cudaEventRecord": (c_void_p, c_void_p),
    "cudaEventQuery": (c_void_p,),
    "cudaEventDestroy": (c_void_p,),
    "cudaGraphInstantiateWithFlags": (_OUT, c_void_p, c_ulonglong),
    "cudaGraphLaunch": (c_void_p, c_void_p),
    "cudaGraphDestroy": (c_void_p,),
    "cudaGraphExecDestroy": (c_void_p,),
}


def library_paths() -> Iterator[str]:
    """Yield where the library may be: in NVIDIA's wheels of this environment, then wherever the system looks."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for soname in _SONAMES:
            yield from (str(path) for path in sorted(Path(folder).glob(f"*/lib/{soname}")))
    yield from _SONAMES


class CudaRuntime:
    """The first GPU that this process sees (`CUDA_VISIBLE_DEVICES` says which).

    Every call raises EngineLostError if CUDA reports an error: out of memory by that name, anything else as a lost device, since
    what goes wrong asynchronously is reported by whichever call comes next, and by all after it.
    """

    def __init__(self) -> None:
        """Load the library and look for a GPU.

        Raises:
            EngineNotHereError: There is no library, no driver, or no GPU.
        """
        try:
            ctypes.CDLL(_DRIVER)  # TensorRT does not survive its absence: it ends the process
        except OSError as error:
            raise EngineNotHereError(
                f"no NVIDIA driver here ({error}). Operator action: install the driver, or pass the GPU into the container; "
                "without a GPU set model.engine to 'auto' or 'onnxruntime'."
            ) from error
        self._library = _load()
        count = c_int()
        status = self._library.cudaGetDeviceCount(ctypes.byref(count))
        if status or not count.value:
            raise EngineNotHereError(
                f"the CUDA runtime sees {count.value} GPUs ({self._named(status)}). Operator action: look at nvidia-smi and "
                "CUDA_VISIBLE_DEVICES; a driver that is older than the library says so here as well."
            )

    def compute_capability(self) -> str:
        """Return the GPU's, as "9.0"."""
        return ".".join(str(self._attribute(which)) for which in (_MAJOR, _MINOR))

    def device_memory(self, size: int) -> int:
        """Allocate bytes on the GPU; returns their address, aligned to 256."""
        return self._new("cudaMalloc", size)

    def free_device_memory(self, address: int) -> None:
        """Free what `device_memory` gave."""
        self._call("cudaFree", address)

    def pinned_memory(self, size: int) -> int:
        """Allocate page-locked bytes of the host, which copies run from without the CPU; returns their address."""
        return self._new("cudaHostAlloc", size, 0)

    def free_pinned_memory(self, address: int) -> None:
        """Free what `pinned_memory` gave."""
        self._call("cudaFreeHost", address)

    def stream(self) -> int:
        """Make a stream that has no order with any other."""
        return self._new("cudaStreamCreateWithFlags", _NON_BLOCKING)

    def finish(self, stream: int) -> None:
        """Block until all of a stream's work is done."""
        self._call("cudaStreamSynchronize", stream)

    def idle(self, stream: int) -> bool:
        """Whether all of a stream's work is done; returns at once."""
        return self._is_done("cudaStreamQuery", stream)

    def free_stream(self, stream: int) -> None:
        """Free a stream."""
        self._call("cudaStreamDestroy", stream)

    def event(self) -> int:
        """Make an event."""
        return self._new("cudaEventCreateWithFlags", _NO_TIMING)

    def record(self, event: int, stream: int) -> None:
        """Let the event happen when the stream's work up to here is done."""
        self._call("cudaEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        """Let the stream's work from here on wait for the event, as it was recorded last."""
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def happened(self, event: int) -> bool:
        """Whether the event has happened; returns at once."""
        return self._is_done("cudaEventQuery", event)

    def free_event(self, event: int) -> None:
        """Free an event."""
        self._call("cudaEventDestroy", event)

    def copy_in(self, device: int, host: int, size: int, stream: int) -> None:
        """Copy bytes from pinned memory to the GPU."""
        self._call("cudaMemcpyAsync", device, host, size, _TO_DEVICE, stream)

    def copy_out(self, host: int, device: int, size: int, stream: int) -> None:
        """Copy bytes from the GPU to pinned memory."""
        self._call("cudaMemcpyAsync", host, device, size, _TO_HOST, stream)

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """Record what `work` puts on the stream, without running it; returns a graph to launch."""
        self._call("cudaStreamBeginCapture", stream, _CAPTURE_THREAD_LOCAL)
        try:
            work()
        finally:  # the stream is of no use until the capture has ended
            graph = self._new_after("cudaStreamEndCapture", stream)
        try:
            return self._new("cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        """Run a captured graph."""
        self._call("cudaGraphLaunch", graph, stream)

    def free_graph(self, graph: int) -> None:
        """Free what `capture` gave."""
        self._call("cudaGraphExecDestroy", graph)

    def _is_done(self, query: str, handle: int) -> bool:
        status = getattr(self._library, query)(handle)
        if status not in {0, _NOT_READY}:
            raise self._lost(query, status)
        return bool(status == 0)

    def _attribute(self, which: int) -> int:
        value = c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), which, 0)
        return value.value

    def _new(self, function: str, *arguments: int) -> int:
        made = c_void_p()
        self._call(function, ctypes.byref(made), *arguments)
        return made.value or 0

    def _new_after(self, function: str, *arguments: int) -> int:
        made = c_void_p()
        self._call(function, *arguments, ctypes.byref(made))
        return made.value or 0

    def _call(self, function: str, *arguments: Any) -> None:  # noqa: ANN401 - integers, and where to put one
        status = getattr(self._library, function)(*arguments)
        if status:
            raise self._lost(function, status)

    def _lost(self, function: str, status: int) -> EngineLostError:
        reason = "out_of_memory" if status == _OUT_OF_MEMORY else "device_lost"
        return EngineLostError(reason, f"{function}: {self._named(status)}")

    def _named(self, status: int) -> str:
        return f"CUDA error {status}, {cast(bytes, self._library.cudaGetErrorString(status)).decode()}"


def _load() -> ctypes.CDLL:
    failures: list[str] = []
    for path in library_paths():
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            failures.append(str(error))
            continue
        for name, arguments in FUNCTIONS.items():
            getattr(library, name).argtypes = arguments
        library.cudaGetErrorString.argtypes, library.cudaGetErrorString.restype = (c_int,), c_char_p
        return library
    raise EngineNotHereError(
        f"the CUDA runtime library cannot be loaded ({'; '.join(failures)}). Operator action: install millrace[gpu], which "
        "brings it, or put it on LD_LIBRARY_PATH."
    )
