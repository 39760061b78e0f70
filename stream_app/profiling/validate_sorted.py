"""Rows of numbers in order, however many: runs are sorted in memory, wait in a temporary file, and are merged from there.

What a log holds far apart stands side by side here. Memory does not grow with the log; the disk takes 8 bytes a number.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.errors import InputFileError

__all__ = ["SortedRows"]

_RUN: Final = 1 << 19  # rows sorted in memory: 16 MB of four numbers each
_READ: Final = 1 << 17  # rows of all runs together that are in memory while they are merged


class SortedRows:
    """Takes rows of `width` integers (int64) in any order and gives them out in order. Use it as a context: it keeps a file.

    Args:
        width: Numbers in a row.
        run: Rows that are sorted in memory.
    """

    def __init__(self, width: int, run: int = _RUN) -> None:
        self._width, self._run = width, run
        self._held = array("q")
        self._file: IO[bytes] | None = None
        self._ends = [0]  # of each run, in rows

    def __enter__(self) -> SortedRows:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the file."""
        if self._file is not None:
            with suppress(OSError):  # of what a full disk did not take
                self._file.close()

    def add(self, row: Sequence[int]) -> None:
        """Take a row.

        Raises:
            InputFileError: The temporary file cannot be written.
        """
        self._held.extend(row)
        if len(self._held) >= self._run * self._width:
            self._spill()

    def rows(self) -> Iterator[list[int]]:
        """Yield all rows in order, once all are there."""
        held = self._sorted()
        each = max(1, _READ // len(self._ends))
        runs = [self._read(first, end, each) for first, end in zip(self._ends[:-1], self._ends[1:], strict=True)]
        return heapq.merge(*runs, _blocks(held, each))

    def _sorted(self) -> NDArray[np.int64]:
        rows = np.frombuffer(self._held, np.int64).reshape(-1, self._width)
        return rows[np.lexsort(rows.T[::-1])]

    def _spill(self) -> None:
        rows = self._sorted()
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
            self._file.write(rows.tobytes())
            self._file.flush()
        except OSError as err:
            raise InputFileError(
                f"cannot write to a temporary file ({err.strerror}): finding what is there twice needs {8 * self._width} bytes "
                "an event there; name a folder with more room in TMPDIR"
            ) from err
        self._ends.append(self._ends[-1] + len(rows))
        self._held = array("q")

    def _read(self, first: int, end: int, each: int) -> Iterator[list[int]]:
        assert self._file is not None
        size = 8 * self._width
        for begin in range(first, end, each):
            block = os.pread(self._file.fileno(), size * (min(end, begin + each) - begin), size * begin)
            yield from np.frombuffer(block, np.int64).reshape(-1, self._width).tolist()


def _blocks(rows: NDArray[np.int64], each: int) -> Iterator[list[int]]:
    for begin in range(0, len(rows), each):
        yield from rows[begin : begin + each].tolist()
