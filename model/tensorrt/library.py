"""TensorRT's module and its error messages, for the builder of plans and for the worker.

TensorRT is imported when a plan is asked for and not before. Look for a GPU first: without a driver, TensorRT does not raise
but ends the process (seen with 10.15 when a plan is read).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from model.tensorrt.protocols import LogSeverity, TensorRt, TensorRtLogger

# `tensorrt` is NVIDIA's whole package; `tensorrt_bindings` is its Python part, alone where the library came another way.
_MODULES: Final = ("tensorrt", "tensorrt_bindings")


@dataclass(frozen=True)
class TensorRtMessages:
    """TensorRT raises nothing: it logs errors, and returns None or False.

    Attributes:
        logger: for the functions of TensorRT.
        errors: logged so far, oldest first.
    """

    logger: TensorRtLogger
    errors: list[str]

    def text(self) -> str:
        """Return the last errors in one sentence."""
        return "; ".join(self.errors[-3:]) or "it gave no reason"


def import_tensorrt() -> TensorRt:
    """Return the module.

    Raises:
        ImportError: It is not installed, or its shared libraries are missing.
    """
    failures = []
    for name in _MODULES:
        try:
            return cast(TensorRt, importlib.import_module(name))
        except ImportError as error:
            failures.append(f"{name}: {error}")
    raise ImportError("; ".join(failures))


def collect_messages(trt: TensorRt, on_error: Callable[[str], None] | None = None) -> TensorRtMessages:
    """Return a logger that keeps errors and drops all else; each error also goes to `on_error`."""
    errors: list[str] = []
    severities: LogSeverity = trt.ILogger.Severity

    def start(self: object) -> None:
        trt.ILogger.__init__(self)

    def log(_self: object, severity: object, msg: str) -> None:
        if severity in {severities.INTERNAL_ERROR, severities.ERROR}:
            errors.append(msg)
            if on_error is not None:
                on_error(msg)

    derived: Callable[[], TensorRtLogger] = type("_Logger", (trt.ILogger,), {"__init__": start, "log": log})
    return TensorRtMessages(derived(), errors)
