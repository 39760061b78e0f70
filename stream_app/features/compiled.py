"""How the hot loops are compiled: by numba, without the interpreter's lock, cached beside their source.

numba's cache notices a change of the file of the function called from Python, not of a file that it calls into. So functions
that call each other stand in one file (fold.py, blob.py): a stale cache would compute yesterday's features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

__all__ = ["compiled", "inlined"]

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile at the first call for its argument types. Division by zero gives no exception: callers guard it."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def inlined(function: F) -> F:
    """Compile a part of a hot loop into its caller.

    Left to itself LLVM stops inlining at some size, and passing a plan's arrays by value then costs more than the loop (measured
    on a Xeon, 37 features: 5.4 against 2.4 us an event).
    """
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)(function))
