"""Replace a file atomically; find out whether a folder can be written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: Path, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` at the end of the block; after an error or a crash the old content stays.

    Args:
        path: The file; its folder exists.
        temporary: In the same folder; None: `path` with the suffix ".tmp", for files that one process writes at a time.
    """
    temporary = temporary or path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def writable_folder(folder: Path) -> Path:
    """Return a folder after creating it and writing to it.

    Raises:
        OSError: It cannot be created or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):  # permissions alone do not tell of a file system that is read-only
        return folder
