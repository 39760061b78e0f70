"""Large arrays of zeros that take memory only where they are written."""

from __future__ import annotations

import contextlib
import math
import mmap

import numpy as np
from numpy.typing import NDArray

from stream_app.features.jit import compiled


def sparse_zeros(rows: int, columns: int) -> NDArray[np.int64]:
    """Return (rows, columns) int64 zeros in a private mapping: unwritten parts cost address space alone.

    The mapping asks for huge pages. Where a page fault is slow (a virtual machine in another one: 8.6 us for each 4 kB of
    np.zeros), the page faults of a new entity's row would otherwise take longer than the fold.
    """
    size = 8 * rows * columns
    if not size or not hasattr(mmap, "MAP_PRIVATE"):
        return np.zeros((rows, columns), np.int64)
    area = mmap.mmap(-1, math.ceil(size / mmap.PAGESIZE) * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError, AttributeError):  # a kernel without them
        area.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(area, np.int64, rows * columns).reshape(rows, columns)


@compiled
def clear_rows(array: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
    """Set rows of an array (N, W) to zeros, at a third of what `array[rows] = 0` takes."""
    for row in rows:
        for column in range(array.shape[1]):
            array[row, column] = 0
