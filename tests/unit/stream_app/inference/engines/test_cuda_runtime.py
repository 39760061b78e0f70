"""The CUDA runtime's functions against the real library and NVIDIA's own bindings, where they are installed; no GPU is needed."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

from stream_app.errors import EngineNotHereError
from stream_app.inference.engines.cuda_runtime import FUNCTIONS, CudaRuntime, library_paths


def test_the_library_of_the_installed_wheels_is_found_and_has_every_function() -> None:
    # torch brings it: every environment that runs the unit tests has one.
    found = [path for path in library_paths() if Path(path).is_absolute()]
    assert found, "no libcudart in the wheels of this environment"
    library = ctypes.CDLL(found[0])
    for name in (*FUNCTIONS, "cudaGetErrorString"):
        assert getattr(library, name)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_each_function_takes_as_many_arguments_as_nvidias_own_bindings_say(name: str) -> None:
    runtime = pytest.importorskip("cuda.bindings.cyruntime", reason="cuda-bindings, which torch brings, are not installed")
    signature = str(runtime.__pyx_capi__[name])  # "... "cudaError_t (void **, size_t)""
    arguments = re.search(r"\((.*)\)", signature)
    assert arguments, signature
    assert len(arguments.group(1).split(",")) == len(FUNCTIONS[name]), signature


def test_without_a_gpu_it_says_so_and_what_to_do_and_the_process_lives_on() -> None:
    try:
        said = CudaRuntime().compute_capability()
    except EngineNotHereError as error:
        said = str(error)
    assert re.search(r"^\d+\.\d$|(no NVIDIA driver|sees 0 GPUs|cannot be loaded).*Operator action", said)
