"""TensorRT and the GPU of this machine; nothing up to ONNX needs them."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any, Final

from model.tensorrt.library import import_tensorrt
from model.tensorrt.protocols import TensorRt
from trt_build.errors import NoDeviceError, NoTensorRTError

_OLDEST: Final = (10, 9)  # the first release with strongly typed networks, refit by ONNX and progress monitors
_NEWEST: Final = 11


@dataclass(frozen=True)
class GpuDevice:
    """A GPU: its name, and its compute capability as "9.0"."""

    name: str
    compute_capability: str


def require_tensorrt() -> TensorRt:
    """Return the module.

    Raises:
        NoTensorRTError: It cannot be imported, or this program does not know its release.
    """
    try:
        module = import_tensorrt()
    except ImportError as err:  # also when its shared libraries are missing
        raise NoTensorRTError(
            f"TensorRT is not installed ({err}). On a GPU host: pip install 'millrace[gpu]' (its libraries come from NVIDIA's "
            "index: --extra-index-url https://pypi.nvidia.com). Checkpoint, ONNX, calibration and verification work without it."
        ) from err
    major, minor = map(int, re.findall(r"\d+", module.__version__)[:2])
    if (major, minor) < _OLDEST or major > _NEWEST:
        raise NoTensorRTError(
            f"TensorRT {module.__version__} is installed, this program is written for {'.'.join(map(str, _OLDEST))} to "
            f"{_NEWEST}.x; install one of those, as: pip install 'tensorrt>=10.9,<12'"
        )
    return module


def require_gpu() -> GpuDevice:
    """Return the first GPU that this process sees.

    Raises:
        NoDeviceError: There are no CUDA bindings, no driver, or no GPU.
    """
    try:
        cuda: Any = importlib.import_module("cuda.bindings.runtime")
    except ImportError as err:
        raise NoDeviceError(f"the CUDA bindings cannot be loaded ({err}); on a GPU host: pip install 'millrace[gpu]'") from err
    status, count = cuda.cudaGetDeviceCount()
    if status or not count:
        _, text = cuda.cudaGetErrorString(status)
        raise NoDeviceError(
            f"no NVIDIA driver here, or no GPU (CUDA error {int(status)}, {text.decode()}; look at nvidia-smi); plans are built, "
            "refitted, inspected and run on a machine with a GPU. What can be done here is everything up to ONNX: `onnx`, "
            "`calibrate`, `verify` without --plan."
        )
    _, properties = cuda.cudaGetDeviceProperties(0)
    return GpuDevice(properties.name.decode(), f"{properties.major}.{properties.minor}")
