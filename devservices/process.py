"""Start server processes that outlive their starter, find them by their command line, and stop them by pid.

A process is ours if the first argument has the right name and another one is the path of our configuration file. Every signal is
preceded by that check, so a pid that the system has given to another process is never signalled.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

_POLL_S = 0.05
_VISIBLE_PATIENCE_S = 5.0


def spawn(argv: Sequence[str], log: Path) -> int:
    """Start `argv` in a session of its own, its output appended to `log`; return its pid."""
    log.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        argv[0],
        list(argv),
        os.environ,  # noqa: TID251  # passed on unread
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,  # the terminal's Ctrl-C and hang-up do not reach it
        setsigmask=[],
        setsigdef=[signal.SIGINT, signal.SIGHUP],
    )
    # The kernel resumes the parent a moment before the new command line is visible; `is_ours` needs it.
    wait_until(lambda: _command_line(pid) != [], _VISIBLE_PATIENCE_S)
    return pid


def is_ours(pid: int, binary: str, config: Path) -> bool:
    """Return whether process `pid` runs `binary` (a file name) on `config`. A zombie does not."""
    argv = _command_line(pid) or [""]
    return Path(argv[0]).name == binary and str(config) in argv[1:]


def find(binary: str, config: Path) -> int | None:
    """Return the pid of the process that runs `binary` on `config`, or None.

    Its forked children (Redis forks to rewrite its log) do not count: they lead no session.
    """
    return next((pid for pid in psutil.pids() if is_ours(pid, binary, config) and _leads_session(pid)), None)


def stop(pid: int, binary: str, config: Path, *, kill: bool = False, patience_s: float = 20.0) -> bool:
    """End the process with SIGTERM, after `patience_s` (or at once, if `kill`) with SIGKILL; return when it is gone.

    Returns:
        True if SIGKILL was used.
    """

    def gone() -> bool:
        # The command line disappears a moment before the exit status can be collected.
        return not is_ours(pid, binary, config) and _collected(pid)

    for number in (signal.SIGKILL,) if kill else (signal.SIGTERM, signal.SIGKILL):
        if is_ours(pid, binary, config):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # it ended after the check
        if wait_until(gone, patience_s) and number is signal.SIGTERM:
            return False
    return True


def wait_until(condition: Callable[[], bool], patience_s: float) -> bool:
    """Poll until `condition()` holds; False when it did not within `patience_s`."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _collected(pid: int) -> bool:
    """Collect the exit status of a child that has ended, so that no zombie stays; True also for processes of other parents."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def _command_line(pid: int) -> list[str] | None:
    """Return the arguments of process `pid`; None if it does not exist, has ended, or belongs to another user."""
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return None
