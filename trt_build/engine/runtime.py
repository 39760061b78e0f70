"""TensorRT on this machine, if there is one: the module, its messages, and whether there is a GPU to use it on.

Imported when a plan is asked for and not before: nothing up to ONNX needs it. The driver is looked for first: without one,
TensorRT does not say so but ends the process (seen with 10.15 when a plan is read).
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from model.tensorrt_shared import Logger
from trt_build.engine.tensorrt_protocols import TensorRtBuilder
from trt_build.errors import NoDeviceError, NoTensorRTError

__all__ = ["GpuDevice", "RuntimeMessages", "device_here", "messages", "release", "tensorrt_here"]

_LOG: Final = logging.getLogger(__name__)
_OLDEST: Final = (10, 9)  # the first release whose strongly typed networks, refit by ONNX and progress monitor are all there
_NEWEST: Final = 11
# `tensorrt` is NVIDIA's whole package; `tensorrt_bindings` is what it imports, alone where the library came another way.
_MODULES: Final = ("tensorrt", "tensorrt_bindings")


@dataclass(frozen=True)
class GpuDevice:
    """A GPU: its name, and its compute capability as "9.0"."""

    name: str
    compute_capability: str


@dataclass(frozen=True)
class RuntimeMessages:
    """What TensorRT said in a step: `logger` is given to it, `errors` are its errors, oldest first."""

    logger: Logger
    errors: list[str]


def tensorrt_here() -> TensorRtBuilder:
    """Return the module.

    Raises:
        NoTensorRTError: It cannot be imported, or its release is not one of those that this program knows.
    """
    failures = []
    for name in _MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError as err:  # also when its shared libraries are missing
            failures.append(f"{name}: {err}")
            continue
        found = release(module.__version__)
        if found < _OLDEST or found[0] > _NEWEST:
            raise NoTensorRTError(
                f"TensorRT {module.__version__} is installed, this program is written for {'.'.join(map(str, _OLDEST))} to "
                f"{_NEWEST}.x; install one of those, as: pip install 'tensorrt>=10.9,<12'"
            )
        return cast(TensorRtBuilder, module)
    raise NoTensorRTError(
        f"TensorRT is not installed ({'; '.join(failures)}). On a GPU host: pip install 'millrace[gpu]' (its libraries come from "
        "NVIDIA's index: --extra-index-url https://pypi.nvidia.com). "
        "Checkpoint, ONNX, calibration and their verification work without it."
    )


def device_here() -> GpuDevice:
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


def release(version: str) -> tuple[int, int]:
    """Return major and minor of a version such as "10.15.1.29"."""
    numbers = re.findall(r"\d+", version)
    return int(numbers[0]), int(numbers[1])


def messages(trt: TensorRtBuilder) -> RuntimeMessages:
    """Return a logger for one step: errors are kept, for they say why a later call answers None; warnings go to our log."""
    errors: list[str] = []
    kinds: Any = trt.ILogger.Severity

    def log(_self: object, severity: object, msg: str) -> None:
        if severity in {kinds.INTERNAL_ERROR, kinds.ERROR}:
            errors.append(msg)
        elif severity == kinds.WARNING:
            _LOG.info("TensorRT: %s", msg)

    def start(self: object) -> None:
        trt.ILogger.__init__(self)

    made: Callable[[], Logger] = type("_Messages", (trt.ILogger,), {"__init__": start, "log": log})
    return RuntimeMessages(made(), errors)
