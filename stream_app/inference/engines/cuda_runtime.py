"""The CUDA runtime for scoring, by NVIDIA's `cuda-bindings` (extra `gpu`), which are imported when a GPU engine is opened.

Handles (streams, events, graphs) and addresses are plain integers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

from stream_app.errors import EngineLostError, EngineNotHereError

_BINDINGS: Final = "cuda.bindings.runtime"


class CudaRuntime:
    """The first GPU that this process sees (`CUDA_VISIBLE_DEVICES` says which).

    Every call raises EngineLostError if CUDA reports an error: out of memory by that name, anything else as a lost device, since
    an asynchronous error is reported by the next call, whichever it is, and by all calls after it.
    """

    def __init__(self, bindings: Any = None) -> None:  # noqa: ANN401 (a module without types)
        """Import the bindings, unless a double of them is passed, and look for a GPU.

        Raises:
            EngineNotHereError: There are no bindings, no driver, or no GPU.
        """
        try:
            self._cuda = bindings or importlib.import_module(_BINDINGS)
        except ImportError as error:
            raise EngineNotHereError(
                f"the CUDA bindings cannot be loaded ({error}). Operator action: pip install 'millrace[gpu]', which brings them, "
                "or set model.engine to 'auto' or 'onnxruntime'."
            ) from error
        # Before TensorRT is touched: it does not survive the absence of a driver but ends the process.
        status, count = self._cuda.cudaGetDeviceCount()
        if status or not count:
            raise EngineNotHereError(
                f"the CUDA runtime sees {count or 0} GPUs ({self._describe(status)}). Operator action: install a driver "
                "that is no older than the bindings, or pass the GPU into the container; look at nvidia-smi and "
                "CUDA_VISIBLE_DEVICES. Without a GPU set model.engine to 'auto' or 'onnxruntime'."
            )

    def compute_capability(self) -> str:
        """Return the GPU's, as "9.0"."""
        which = self._cuda.cudaDeviceAttr
        numbers = (which.cudaDevAttrComputeCapabilityMajor, which.cudaDevAttrComputeCapabilityMinor)
        return ".".join(str(self._call("cudaDeviceGetAttribute", number, 0)) for number in numbers)

    def device_memory(self, size: int) -> int:
        """Allocate bytes on the GPU; returns their address, aligned to 256."""
        return self._call("cudaMalloc", size)

    def free_device_memory(self, address: int) -> None:
        """Free an allocation of `device_memory`."""
        self._call("cudaFree", address)

    def pinned_memory(self, size: int) -> int:
        """Allocate page-locked bytes of the host, so that copies run without the CPU; returns their address."""
        return self._call("cudaHostAlloc", size, 0)

    def free_pinned_memory(self, address: int) -> None:
        """Free an allocation of `pinned_memory`."""
        self._call("cudaFreeHost", address)

    def stream(self) -> int:
        """Make a stream that has no order with any other, the default stream included."""
        return self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)

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
        return self._call("cudaEventCreateWithFlags", self._cuda.cudaEventDisableTiming)

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
        self._call("cudaMemcpyAsync", device, host, size, self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)

    def copy_out(self, host: int, device: int, size: int, stream: int) -> None:
        """Copy bytes from the GPU to pinned memory."""
        self._call("cudaMemcpyAsync", host, device, size, self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """Record the calls of `work` on the stream, without running them; returns a graph to launch."""
        # Thread-local: calls of other threads do not spoil a capture.
        self._call("cudaStreamBeginCapture", stream, self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            work()
        finally:  # the stream is of no use until the capture has ended
            graph = self._call("cudaStreamEndCapture", stream)
        try:
            return self._call("cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        """Run a captured graph."""
        self._call("cudaGraphLaunch", graph, stream)

    def free_graph(self, graph: int) -> None:
        """Free a graph of `capture`."""
        self._call("cudaGraphExecDestroy", graph)

    def _is_done(self, query: str, handle: int) -> bool:
        (status,) = getattr(self._cuda, query)(handle)
        if status not in {self._cuda.cudaError_t.cudaSuccess, self._cuda.cudaError_t.cudaErrorNotReady}:
            raise self._lost(query, status)
        return not status

    def _call(self, function: str, *arguments: Any) -> int:  # noqa: ANN401 - integers and enumerations
        """Call a function; returns its number, address or handle, 0 where it has none."""
        status, *values = getattr(self._cuda, function)(*arguments)
        if status:
            raise self._lost(function, status)
        return int(values[0]) if values else 0

    def _lost(self, function: str, status: Any) -> EngineLostError:  # noqa: ANN401
        reason = "out_of_memory" if status == self._cuda.cudaError_t.cudaErrorMemoryAllocation else "device_lost"
        return EngineLostError(reason, f"{function}: {self._describe(status)}")

    def _describe(self, status: Any) -> str:  # noqa: ANN401
        _, text = self._cuda.cudaGetErrorString(status)
        return f"CUDA error {int(status)}, {text.decode()}"
