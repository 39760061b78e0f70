"""Worker processes of one run: started, killed and ended by pid, and none left running.

A `Fleet` is also the process manager that a crash-only worker needs: `tend` starts again what ended by itself and
counts it. Leaving the `with` block ends every process, whatever happened inside, with SIGTERM and then SIGKILL.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[2]  # the checkout: services, logs and the model are found from here
_TERMINATE_S = 30.0  # a worker drains what is in flight and commits before it goes; twice what that was seen to take


class FleetError(Exception):
    """A process of the run failed; the message has the end of its log."""


def child_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without its own MILLRACE_ variables, and with `settings` instead.

    So a run does not depend on what the caller's shell has exported.
    """
    inherited = os.environ  # passed on unread
    environment = {name: value for name, value in inherited.items() if not name.startswith("MILLRACE_")}
    return {**environment, **settings}


def log_tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log file, indented, or a note that it is missing or empty."""
    if not log.exists():
        return f"    ({log} does not exist)"
    tail = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in tail) or f"    ({log} is empty)"


def run_python(arguments: Sequence[str], settings: Mapping[str, str], log: Path, limit_s: float = 120.0) -> str:
    """Run `python -m ...` to its end and return what it wrote to stdout; stderr goes to `log`.

    Raises:
        FleetError: It failed, or ran longer than `limit_s` seconds.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", *arguments]
    with log.open("ab") as sink:
        try:
            done = subprocess.run(
                argv, env=child_environment(settings), stdout=subprocess.PIPE, stderr=sink, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired as err:
            msg = f"`python -m {' '.join(arguments)}` did not end within {limit_s:.0f} s:\n{log_tail(log)}"
            raise FleetError(msg) from err
    out = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        msg = f"`python -m {' '.join(arguments)}` ended with status {done.returncode}:\n{out[-2000:]}\n{log_tail(log)}"
        raise FleetError(msg)
    return out


def die_on_sigterm() -> None:
    """Make SIGTERM end this process like an exception does, so that `with` blocks end their processes first."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


@dataclass(slots=True)
class Fleet(AbstractContextManager["Fleet"]):
    """The processes of one run.

    Attributes:
        logs: Folder for one log file a process; what is there is appended to.
        max_self_exits: Beyond it they crash in a loop: `tend` raises.
        self_exits: How many processes ended by themselves and were started again by `tend`.
    """

    logs: Path
    max_self_exits: int = 20
    self_exits: int = 0
    _commands: dict[str, tuple[list[str], dict[str, str]]] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __exit__(self, *_exception: object) -> None:
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        for name in list(self._running):
            self._reap(name, _TERMINATE_S)

    def start(self, name: str, arguments: Sequence[str], settings: Mapping[str, str]) -> int:
        """Start `python -m arguments...` under `name`; return its pid."""
        self._commands[name] = ([sys.executable, "-m", *arguments], child_environment(settings))
        return self._spawn(name)

    def restart(self, name: str) -> int:
        """Start the ended process `name` again, with the same arguments and environment; return its pid."""
        assert name not in self._running, f"{name} still runs"
        return self._spawn(name)

    def kill(self, name: str) -> None:
        """End it at once (SIGKILL) and take its exit status."""
        self._running[name].kill()
        self._running.pop(name).wait()

    def terminate(self, name: str, patience_s: float = _TERMINATE_S) -> bool:
        """Send SIGTERM, after `patience_s` SIGKILL. Return whether it ended by itself with status 0."""
        self._running[name].terminate()
        return self._reap(name, patience_s)

    def tend(self) -> None:
        """Start again what ended by itself.

        Raises:
            FleetError: They crash in a loop.
        """
        for name, process in list(self._running.items()):
            if process.poll() is None:
                continue
            del self._running[name]
            self.self_exits += 1
            if self.self_exits > self.max_self_exits:
                msg = (
                    f"the workers ended by themselves {self.self_exits} times, last {name} with status "
                    f"{process.returncode}; the end of {self.log(name)}:\n{log_tail(self.log(name))}"
                )
                raise FleetError(msg)
            self._spawn(name)

    def names(self) -> list[str]:
        """Return the names of the processes that were started and neither ended by us nor forgotten."""
        return list(self._running)

    def ended(self, name: str) -> int | None:
        """Return the exit status of `name` if it has ended, else None."""
        return self._running[name].poll()

    def forget(self, name: str) -> None:
        """Take a process that has ended off the list, so that `tend` does not start it again."""
        self._running.pop(name).wait()

    def log(self, name: str) -> Path:
        """Return the path of the log of `name`."""
        return self.logs / f"{name}.log"

    def _spawn(self, name: str) -> int:
        argv, env = self._commands[name]
        self.logs.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as sink:
            # A session of its own: Ctrl-C reaches the harness alone, which then ends them in its own order.
            process = subprocess.Popen(
                argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
            )
        self._running[name] = process
        return process.pid

    def _reap(self, name: str, patience_s: float) -> bool:
        process = self._running.pop(name)
        try:
            return process.wait(patience_s) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
