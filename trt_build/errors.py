"""Errors of a build. Every message names the cause and the fix; the class decides the exit status.

BuildError           1  a step failed, or its result is wrong
  RefusedError       1  a file is damaged, of another model, or newer than this program
  NoTensorRTError    3  NVIDIA's library is missing; everything up to ONNX works without it
  NoDeviceError      4  there is no GPU or no driver; likewise
(2 is wrong usage.)
"""

from __future__ import annotations

from typing import ClassVar


class BuildError(Exception):
    """A step failed; its target is unchanged."""

    exit_status: ClassVar[int] = 1


class RefusedError(BuildError):
    """A file is damaged, of another model, or too new."""


class NoTensorRTError(BuildError):
    """TensorRT cannot be imported."""

    exit_status: ClassVar[int] = 3


class NoDeviceError(BuildError):
    """There is no GPU or no driver."""

    exit_status: ClassVar[int] = 4
