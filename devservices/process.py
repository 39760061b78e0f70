"""Server processes that outlive who starts them, and are stopped by their pid alone, after a look at what runs there.

A process is ours if its first argument has the right name and one of the others is our own configuration file's path.
So a pid that the system has given to another process since is never signalled. Needs Linux's /proc.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["find", "is_ours", "reap", "spawn", "stop", "wait_until"]

_POLL_S = 0.05
_VISIBLE_PATIENCE_S = 5.0


def spawn(argv: Sequence[str], log: Path) -> int:
    """Start `argv` in a session of its own, its output appended to `log`; return its pid. Nobody waits for its end."""
    log.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        argv[0],
        list(argv),
        os.environ,  # noqa: TID251  # handed on as it is, nothing is read from it
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,  # the terminal's Ctrl-C and hang-up do not reach it
        setsigmask=[],
        setsigdef=[signal.SIGINT, signal.SIGHUP],
    )
    # The kernel lets the parent go on a moment before the new command line can be seen; `is_ours` relies on it.
    wait_until(lambda: _command_line(pid) != [b""] or reap(pid), _VISIBLE_PATIENCE_S)
    return pid


def is_ours(pid: int, binary: str, config: Path) -> bool:
    """Tell whether process `pid` runs `binary` (a file name) on `config`. A zombie does not."""
    argv = _command_line(pid)
    return os.path.basename(argv[0]) == binary.encode() and os.fsencode(config) in argv[1:]  # noqa: PTH119  # bytes


def find(binary: str, config: Path) -> int | None:
    """Return the pid of the process that runs `binary` on `config`, or None.

    Processes that it has forked (Redis does, to rewrite its log) do not count: they lead no session.
    """
    for entry in Path("/proc").iterdir():
        pid = int(entry.name) if entry.name.isdigit() else 0
        if pid and is_ours(pid, binary, config) and _leads_session(pid):
            return pid
    return None


def reap(pid: int) -> bool:
    """Take the exit status of `pid` if it is our child and has ended, so that no zombie stays; True if it was taken."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def stop(pid: int, binary: str, config: Path, *, kill: bool = False, patience_s: float = 20.0) -> bool:
    """End the process with SIGTERM, after `patience_s` (or at once, if `kill`) with SIGKILL; return when it is gone.

    Returns:
        True if SIGKILL was used.
    """

    def other() -> bool:
        return not is_ours(pid, binary, config)

    def gone() -> bool:
        # The command line goes a moment before the exit status can be taken: a child is gone when its status is.
        return other() and _taken(pid)

    if not kill:
        _signal(pid, signal.SIGTERM, other)
        if wait_until(gone, patience_s):
            return False
    _signal(pid, signal.SIGKILL, other)
    wait_until(gone, patience_s)
    return True


def wait_until(condition: Callable[[], bool], patience_s: float) -> bool:
    """Poll until `condition()` holds; False when it did not within `patience_s`."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _taken(pid: int) -> bool:
    """Whether no exit status of `pid` waits, or will wait, to be taken by us."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _signal(pid: int, number: signal.Signals, other: Callable[[], bool]) -> None:
    if other():  # the last look before the signal: the pid may belong to someone else by now
        return
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def _command_line(pid: int) -> list[bytes]:
    """Return the arguments of process `pid`; one empty one if there is no such process, or only its exit status."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return [b""]
