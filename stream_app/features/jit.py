"""Decorators for the hot loops: compiled by numba, without the interpreter's lock, cached on disk.

numba's own cache notices a change of the file that holds a function, but not of the files that the function calls into: a stale
cache would compute the features of older sources. So the cache folder's name contains a hash of every source file of this
package.
"""

from __future__ import annotations

import atexit
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

# Numbers for the type checker; compiled code has exact types.
Int: TypeAlias = int | np.int64
Real: TypeAlias = float | np.float64

F = TypeVar("F", bound=Callable[..., object])

config: Any = _numba_config  # its attributes appear at run time, so the type checker knows none
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
    yield _HERE / "__pycache__"  # the image and `make demo` warm it here
    with contextlib.suppress(RuntimeError):  # a user id without a home
        yield Path.home() / ".cache" / "millrace"


def cache_folder() -> Path | None:
    """Return the folder of this version's compiled code, in the first place that is writable; None: no place is."""
    name = _PREFIX + _fingerprint()
    for base in _candidates():
        folder = base / name
        with contextlib.suppress(OSError):  # also of a base that this user may not enter
            if folder.is_dir() and os.access(folder, os.W_OK):  # writable, since another processor type adds its own code
                return folder
            folder.mkdir(parents=True)
            for old in base.glob(_PREFIX + "*"):
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)  # of older sources
            return folder
    with contextlib.suppress(OSError):
        # Private to this process: whoever can write there could run code in it.
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder
    return None


_FOLDER: Final = cache_folder()


def cached(**options: Any) -> Callable[[F], F]:  # noqa: ANN401 (numba's options)
    """Compile with these options of numba, without the interpreter's lock; the code is kept where this process can write."""

    def decorate(function: F) -> F:
        before, config.CACHE_DIR = config.CACHE_DIR, str(_FOLDER or "")  # numba reads the setting when it decorates
        try:
            jit: Any = numba.njit
            return cast(F, jit(cache=_FOLDER is not None, nogil=True, **options)(function))
        finally:
            config.CACHE_DIR = before

    return decorate


def _jit(function: F, *, forceinline: bool = False, runtime: bool = False) -> F:
    # Without numba's runtime, compiled code counts no references to arrays (a plan has thirteen, and counting them at each
    # call took three quarters of the fold's time) and cannot allocate: the caller makes all arrays.
    return cached(error_model="numpy", forceinline=forceinline, _nrt=runtime)(function)


def compiled(function: F) -> F:
    """Compile at the first call, for its argument types. Division by zero raises nothing: callers guard it."""
    return _jit(function)


def allocating(function: F) -> F:
    """Like `compiled`, for functions that allocate arrays: not for inner loops."""
    return _jit(function, runtime=True)


def inlined(function: F) -> F:
    """Inline a part of a hot loop into its caller.

    LLVM alone stops inlining at some size, and passing a plan's arrays by value then costs more than the loop (measured on a
    Xeon, 37 features: 5.4 against 2.4 us an event).
    """
    return _jit(function, forceinline=True)


def _prefetch(_typing: Any, array: Any, _row: Any, _column: Any) -> tuple[Any, Callable[..., Any]]:  # noqa: ANN401 - numba has no types
    llvm: Any = cgutils  # its functions are untyped

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ANN401
        data = context.make_array(signature.args[0])(context, builder, args[0])
        by_row, by_column = llvm.unpack_tuple(builder, data.strides, 2)
        offset = builder.add(builder.mul(args[1], by_row), builder.mul(args[2], by_column))
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.inttoptr(builder.add(builder.ptrtoint(data.data, ir.IntType(64)), offset), byte)
        prototype = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = llvm.get_or_insert_function(builder.module, prototype, "llvm.prefetch.p0i8")
        builder.call(function, [address, number(0), number(2), number(1)])  # a read; into the second cache; data
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


# prefetch(array (N, W), row, column): start loading the cache line of one element from memory. A hint, so interpreted code
# (NUMBA_DISABLE_JIT=1, to step through the fold in a debugger) does nothing.
prefetch: Final[Callable[[NDArray[Any], Int, Int], None]] = (
    (lambda _array, _row, _column: None) if config.DISABLE_JIT else cast(Any, intrinsic)(_prefetch)
)
