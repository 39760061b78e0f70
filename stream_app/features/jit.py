"""How the hot loops are compiled: by numba, without the interpreter's lock, kept on disk.

numba's own cache notices a change of the file that holds a function, not of the files that the function calls into: a stale cache
would compute yesterday's features. So the cache lies in a folder that is named after a hash of every source file of this package.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core import config as _numba_config
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["Int", "Real", "allocating", "cache_folder", "compiled", "inlined", "prefetch"]

# What a number is to the type checker; compiled code knows exactly.
Int: TypeAlias = int | np.int64
Real: TypeAlias = float | np.float64

F = TypeVar("F", bound=Callable[..., object])

config: Any = _numba_config  # its settings are made when it is loaded
_HERE: Final = Path(__file__).parent
_PREFIX: Final = "millrace-"


def _fingerprint() -> str:
    hashed = hashlib.sha256(numba.__version__.encode())
    for path in sorted(_HERE.rglob("*.py")):
        hashed.update(path.relative_to(_HERE).as_posix().encode() + b"\0" + path.read_bytes())
    return hashed.hexdigest()[:16]


def _candidates() -> Iterator[Path]:
    if config.CACHE_DIR:  # numba's own setting, NUMBA_CACHE_DIR
        yield Path(config.CACHE_DIR)
        return
    yield _HERE / "__pycache__"  # where the image and `make demo` warm it
    yield Path.home() / ".cache" / "millrace"


def cache_folder() -> Path:
    """Return the folder of this version's compiled code; made if it is not there, in the first place that can be written to."""
    name = _PREFIX + _fingerprint()
    for base in _candidates():
        folder = base / name
        if folder.is_dir() and os.access(folder, os.W_OK):  # another processor may have to add its own code
            return folder
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True)
            for old in base.glob(_PREFIX + "*"):
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)  # compiled from sources that are gone
            return folder
    return Path(tempfile.mkdtemp(prefix=_PREFIX))  # of this process alone: who can write there runs code in it


_FOLDER: Final = str(cache_folder())


def _jit(function: F, *, forceinline: bool = False, runtime: bool = False) -> F:
    before, config.CACHE_DIR = config.CACHE_DIR, _FOLDER  # numba settles the place while it decorates
    try:
        # Without numba's runtime no reference to an array is counted (a plan has sixteen, and each call counted them all: three
        # quarters of the fold's time), and no array can be made: what a function works on is made by its caller.
        options = {"cache": True, "nogil": True, "error_model": "numpy", "forceinline": forceinline, "_nrt": runtime}
        jit: Any = numba.njit
        return cast(F, jit(**options)(function))
    finally:
        config.CACHE_DIR = before


def compiled(function: F) -> F:
    """Compile at the first call for its argument types. Division by zero gives no exception: callers guard it."""
    return _jit(function)


def allocating(function: F) -> F:
    """Like `compiled`, for what must make arrays: not for inner loops."""
    return _jit(function, runtime=True)


def inlined(function: F) -> F:
    """Compile a part of a hot loop into its caller.

    Left to itself LLVM stops inlining at some size, and passing a plan's arrays by value then costs more than the loop (measured
    on a Xeon, 37 features: 5.4 against 2.4 us an event).
    """
    return _jit(function, forceinline=True)


def _prefetch(_typing: Any, array: Any, _row: Any, _column: Any) -> tuple[Any, Callable[..., Any]]:  # noqa: ANN401 - numba has no types
    llvm: Any = cgutils  # its functions are untyped

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:  # noqa: ANN401
        made = context.make_array(signature.args[0])(context, builder, given[0])
        by_row, by_column = llvm.unpack_tuple(builder, made.strides, 2)
        offset = builder.add(builder.mul(given[1], by_row), builder.mul(given[2], by_column))
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.inttoptr(builder.add(builder.ptrtoint(made.data, ir.IntType(64)), offset), byte)
        wanted = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = llvm.get_or_insert_function(builder.module, wanted, "llvm.prefetch.p0i8")
        builder.call(function, [address, number(0), number(2), number(1)])  # to be read; into the second cache; data
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


# prefetch(array (N, W), row, column): have the cache line of one element fetched from memory while other work goes on.
prefetch: Final[Callable[[NDArray[Any], Int, Int], None]] = cast(Any, intrinsic)(_prefetch)
