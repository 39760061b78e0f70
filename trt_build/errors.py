"""What can go wrong in a build. Every message says what was found and what to do; the class decides the exit status.

BuildError           1  it did not work, or what came out is wrong
  RefusedError       1  a file that is damaged, of something else, or newer than this program
  NoTensorRTError    3  NVIDIA's library is not here; everything up to ONNX works without it
  NoDeviceError      4  no GPU or no driver; likewise
(2 is wrong usage, as everywhere.)
"""

from __future__ import annotations

from typing import ClassVar

__all__ = ["BuildError", "NoDeviceError", "NoTensorRTError", "RefusedError"]


class BuildError(Exception):
    """A step failed. Nothing was written to its target."""

    exit_status: ClassVar[int] = 1


class RefusedError(BuildError):
    """A file that is not taken as it is."""


class NoTensorRTError(BuildError):
    """TensorRT cannot be imported."""

    exit_status: ClassVar[int] = 3


class NoDeviceError(BuildError):
    """TensorRT is there, a GPU is not."""

    exit_status: ClassVar[int] = 4
