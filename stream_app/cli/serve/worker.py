"""`millrace worker`: score events until told to stop."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Final

import click

from stream_app.cli.settings import cli_settings
from stream_app.config import child_environ

__all__ = ["supervise", "worker"]

_RESTARTABLE_AFTER_S: Final = 30.0  # a worker that lived so long has recovered; its next crash starts with a short pause again
_PAUSES_S: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
_NOT_RESTARTED: Final = (0, 2)  # stopped on purpose; wrong settings


@click.command(
    "worker",
    epilog="""\b
Examples:
  millrace worker                       one worker; run one a core, they share the partitions
  millrace worker --restart             start again after a crash (a process manager does the same)
  MILLRACE_WORKER_WEB_PORT=8080 millrace worker      with /metrics and /healthz""",
)
@click.option("--restart", is_flag=True, help="Run the worker in a child process and start it again when it crashes.")
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]), help="Least level logged.")
def worker(restart: bool, log_level: str) -> None:
    """Score events: Kafka in, three answers out.

    Crash-only: a worker that cannot go on ends with a non-zero status, and whoever starts it again goes on where the store
    stands. SIGTERM and Ctrl-C finish what is in flight.
    """
    settings = cli_settings()
    if restart:
        command = [sys.executable, "-m", "stream_app", "worker", "--log-level", log_level]
        sys.exit(supervise(command, child_environ(settings)))
    logging.basicConfig(level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("faust", "mode", "aiokafka"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    from stream_app.app import run_worker

    sys.exit(run_worker(settings))


def supervise(command: Sequence[str], environ: Mapping[str, str], pauses_s: Sequence[float] = _PAUSES_S) -> int:
    """Run `command` again after each crash; a signal is passed on and ends it.

    It never gives up: what ails a worker (broker, Redis) comes back without it. The pauses grow to the last one and stay there.
    """
    stopping = threading.Event()
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        stopping.set()
        if child is not None and child.poll() is None:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    from devservices.embedded import die_with_parent

    failures = 0
    while not stopping.is_set():
        started = time.monotonic()
        child = subprocess.Popen([*die_with_parent(), *command], env=environ, start_new_session=True)
        if stopping.is_set():  # the signal came before there was a child to pass it on to
            child.terminate()
        status = child.wait()
        if stopping.is_set() or status in _NOT_RESTARTED:
            return max(status, 0)
        failures = 1 if time.monotonic() - started > _RESTARTABLE_AFTER_S else failures + 1
        pause = pauses_s[min(failures, len(pauses_s)) - 1]
        click.echo(
            f"millrace: the worker ended with status {status}; starting it again in {pause:.0f} s (failure {failures} in a row)",
            err=True,
        )
        stopping.wait(pause)
    return 0
