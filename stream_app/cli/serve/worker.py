"""`millrace worker`: scores events until a signal stops it."""

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
from stream_app.reporting.repeat_filter import RepeatFilter

_RESTARTABLE_AFTER_S: Final = 30.0  # a worker that ran so long has recovered; the pauses start over
_PAUSES_S: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
_NOT_RESTARTED: Final = (0, 2)  # stopped on purpose; wrong settings


@click.command(
    "worker",
    epilog="""\b
Examples:
  millrace worker                       one worker; start one for each core, they share the partitions
  millrace worker --restart             start again after a crash (a process manager does the same)
  MILLRACE_WORKER_WEB_PORT=8080 millrace worker      with /metrics and /healthz""",
)
@click.option("--restart", is_flag=True, help="Run the worker in a child process and start it again when it crashes.")
@click.option(
    "--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]), help="Lowest level to log."
)
def worker(restart: bool, log_level: str) -> None:
    """Score events: Kafka in, three answers out.

    Crash-only: a worker that cannot continue exits with a non-zero status, and the next one continues at the positions in the
    store. On SIGTERM and Ctrl-C it finishes the batches in flight.
    """
    settings = cli_settings()
    if restart:
        command = [sys.executable, "-m", "stream_app", "worker", "--log-level", log_level]
        sys.exit(supervise(command, child_environ(settings)))
    logging.basicConfig(level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("faust", "mode", "aiokafka"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:  # aiokafka logs some thirty lines a second while the broker is away
        handler.addFilter(RepeatFilter("aiokafka"))
    from stream_app.app import run_worker

    sys.exit(run_worker(settings))


def supervise(command: Sequence[str], environ: Mapping[str, str], pauses_s: Sequence[float] = _PAUSES_S) -> int:
    """Run `command` again after each crash; SIGTERM and SIGINT go to the child and end the loop.

    It retries for ever: broker and Redis recover without it. The pauses grow up to the last one.
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
        if stopping.is_set():  # the signal came before the child existed
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
