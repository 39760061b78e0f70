"""The folder for the files that commands and workers keep for themselves."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from model.atomic_file import writable_folder
from stream_app.errors import ConfigError


@cache
def work_folder(chosen: str = "") -> Path:
    """Return a folder that this process can write; creates it.

    Args:
        chosen: The setting `worker.folder`; empty: `.millrace` in the current folder, or, where that cannot be written (another
            user's folder, a read-only file system), a temporary folder that goes with this process.

    Raises:
        ConfigError: `chosen` cannot be written, or nothing can.
    """
    try:
        return writable_folder(Path(chosen or ".millrace"))
    except OSError as err:
        if chosen:
            raise ConfigError(
                f"worker.folder (MILLRACE_WORKER_FOLDER) is {chosen}, which cannot be written: {err.strerror}; name a folder of "
                "this user, or unset it for a temporary one"
            ) from err
    try:
        temporary = Path(tempfile.mkdtemp(prefix="millrace-"))
    except OSError as err:
        raise ConfigError(
            f"no folder can be written, neither {Path('.millrace').absolute()} nor a temporary one ({err.strerror}); set "
            "worker.folder (MILLRACE_WORKER_FOLDER) or TMPDIR to a folder of this user"
        ) from err
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return temporary
