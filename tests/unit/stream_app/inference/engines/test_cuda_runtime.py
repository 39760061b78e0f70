"""Calls of the CUDA runtime against NVIDIA's own bindings, which torch brings; no GPU is needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from stream_app.errors import EngineLostError, EngineNotHereError
from stream_app.inference.engines.cuda_runtime import CudaRuntime

cuda = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings, which torch brings, are not installed")

CALLS: list[Callable[[CudaRuntime], object]] = [
    lambda gpu: gpu.compute_capability(),
    lambda gpu: gpu.device_memory(8),
    lambda gpu: gpu.free_device_memory(1),
    lambda gpu: gpu.pinned_memory(8),
    lambda gpu: gpu.free_pinned_memory(1),
    lambda gpu: gpu.stream(),
    lambda gpu: gpu.finish(1),
    lambda gpu: gpu.idle(1),
    lambda gpu: gpu.free_stream(1),
    lambda gpu: gpu.event(),
    lambda gpu: gpu.record(1, 2),
    lambda gpu: gpu.wait(2, 1),
    lambda gpu: gpu.happened(1),
    lambda gpu: gpu.free_event(1),
    lambda gpu: gpu.copy_in(1, 2, 8, 3),
    lambda gpu: gpu.copy_out(2, 1, 8, 3),
    lambda gpu: gpu.capture(1, lambda: None),
    lambda gpu: gpu.launch(1, 2),
    lambda gpu: gpu.free_graph(1),
]


class Bindings:
    """The real constants; functions that look at their arguments and answer `status`."""

    def __init__(self) -> None:
        self.status = cuda.cudaError_t.cudaSuccess

    def __getattr__(self, name: str) -> Any:
        member = getattr(cuda, name)  # an AttributeError where NVIDIA has no such function
        if not callable(member) or isinstance(member, type) or name == "cudaGetErrorString":
            return member
        parameters = re.search(rf"^{name}\((.*)\)", member.__doc__)
        assert parameters, member.__doc__

        def call(*arguments: Any) -> tuple[Any, ...]:
            assert len(arguments) == len([part for part in parameters.group(1).split(",") if part]), name
            has_none = re.search("Query|Destroy|Free|Record|Wait|Synchronize|Memcpy|Begin|Launch", name)
            return (self.status,) if has_none else (self.status, 7)

        return call


@pytest.mark.parametrize("call", CALLS)
def test_each_function_takes_as_many_arguments_as_nvidias_own_bindings_say(call: Callable[[CudaRuntime], object]) -> None:
    bindings = Bindings()
    gpu = CudaRuntime(bindings)
    call(gpu)
    for status, reason in ((cuda.cudaError_t.cudaErrorMemoryAllocation, "out_of_memory"), (700, "device_lost")):
        bindings.status = cuda.cudaError_t(status)
        with pytest.raises(EngineLostError, match=f"cuda.*: CUDA error {int(status)}, ") as lost:
            call(gpu)
        assert lost.value.reason == reason


def test_work_that_is_under_way_is_not_an_error() -> None:
    bindings = Bindings()
    gpu = CudaRuntime(bindings)
    assert gpu.idle(1)
    assert gpu.happened(1)
    bindings.status = cuda.cudaError_t.cudaErrorNotReady
    assert not gpu.idle(1)
    assert not gpu.happened(1)


def test_without_a_gpu_it_says_so_and_what_to_do_and_the_process_lives_on() -> None:
    try:
        said = CudaRuntime().compute_capability()
    except EngineNotHereError as error:
        said = str(error)
    assert re.search(r"^\d+\.\d$|(no NVIDIA driver|sees 0 GPUs|cannot be loaded).*Operator action", said)
