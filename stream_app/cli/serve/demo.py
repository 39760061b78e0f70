"""`millrace demo`: broker, Redis, worker and a simulated shop on this machine, shown on one screen; nothing to install."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stream_app.cli.settings import cli_settings
from stream_app.config import child_environ
from stream_app.errors import ServiceError
from stream_app.events import ANSWER_TOPICS, SIDE_TOPICS, SOURCE_TOPICS

if TYPE_CHECKING:
    from stream_app.config import Settings
    from stream_app.monitor.answer_reader import AnswerReader

_PARTITIONS: Final = 4
_LABEL_DELAY_S: Final = 2.0  # mean delay; the simulator's greatest is twice as long
_START_TIMEOUT_S: Final = 120.0  # a first start compiles the feature engine
_DRAIN_TIMEOUT_S: Final = 10.0
_REFRESH_S: Final = 0.5
_PLAIN_EVERY_S: Final = 5.0


@click.command(
    "demo",
    epilog="""\b
Examples:
  millrace demo                    until Ctrl-C
  millrace demo --seconds 30       then one line of JSON
  millrace demo --rate 1500        a busier shop""",
)
@click.option("--seconds", type=click.FloatRange(min=1), help="Stop after so many seconds.  [default: at Ctrl-C]")
@click.option("--rate", type=click.FloatRange(min=1, max=5000), default=400.0, show_default=True, help="Events a second.")
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the simulated shop.")
def demo(seconds: float | None, rate: float, seed: int) -> None:
    """Run a whole deployment on this machine and watch live answers.

    Starts an embedded broker and Redis, a worker and a simulated shop with fraud rings, and shows the worker's answers.
    Only logs stay behind, in `.millrace/demo` (see the setting `worker.folder`).
    """
    from devservices.embedded import embedded_services
    from devservices.ports import free_port
    from stream_app.logs.ingest.stopping import stop_on_signals
    from stream_app.monitor.answer_reader import AnswerReader
    from stream_app.work_folder import work_folder

    logs = work_folder(cli_settings(announce=False).worker.folder) / "demo"
    logs.mkdir(parents=True, exist_ok=True)
    topics = dict.fromkeys((*SOURCE_TOPICS, *ANSWER_TOPICS, *SIDE_TOPICS), _PARTITIONS)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals(second_interrupts=False))
        state = stack.enter_context(embedded_services(topics))
        settings = _demo_settings(cli_settings(announce=False), state.kafka.bootstrap, state.redis.url, free_port("demo"))
        reader = stack.enter_context(AnswerReader(settings.kafka.bootstrap, label_delay_ms=int(2 * _LABEL_DELAY_S * 1000)))
        worker = stack.enter_context(_child("worker", ["worker"], settings, logs))
        click.echo("starting the worker (the first start on a machine compiles the feature engine) ...", err=True)
        _wait_for_worker(settings.worker.web_port, worker, logs, stop)
        shop_arguments = ["simulate", "--rate", str(rate), "--seed", str(seed), "--label-delay", str(_LABEL_DELAY_S)]
        shop = stack.enter_context(_child("shop", shop_arguments, settings, logs))
        begin_s = time.monotonic()
        end_s = None if seconds is None else begin_s + seconds
        _show(reader, begin_s, end_s, stop, {"worker": worker, "shop": shop}, logs)
        elapsed_s = time.monotonic() - begin_s
        _end(shop)
        reader.drain(_DRAIN_TIMEOUT_S)
        result = _result(reader, elapsed_s)
    click.echo(json.dumps(result))


def _demo_settings(settings: Settings, bootstrap: str, redis_url: str, web_port: int) -> Settings:
    return replace(
        settings,
        kafka=replace(
            settings.kafka, bootstrap=bootstrap, partitions=_PARTITIONS, session_timeout_ms=6_000, client_api_version="2.3",
            topic_prefix="", group="millrace-demo",
        ),
        redis=replace(settings.redis, url=redis_url),
        worker=replace(settings.worker, web_port=web_port, web_host="127.0.0.1", instance=""),
    )  # fmt: skip


@contextmanager
def _child(name: str, arguments: list[str], settings: Settings, logs: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a sub-command in a process of its own session; the process ends with the context."""
    from devservices.embedded import die_with_parent

    with (logs / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*die_with_parent(), sys.executable, "-m", "stream_app", *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=child_environ(settings), start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Terminate the process, and kill it if it does not end in time."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=_DRAIN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_worker(port: int, worker: subprocess.Popen[bytes], logs: Path, stop: threading.Event) -> None:
    """Wait until the worker owns its partitions.

    Raises:
        ServiceError: The worker ended, or was not ready in time; the message has the end of its log.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy of the environment
    give_up_s = time.monotonic() + _START_TIMEOUT_S
    while not stop.is_set():
        if worker.poll() is not None or time.monotonic() > give_up_s:
            raise ServiceError(f"the worker did not start (status {worker.poll()}); {_log_end(logs, 'worker')}")
        try:
            with direct.open(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
                if json.load(answer)["assignment"] > 0:
                    return
        except (OSError, HTTPException, ValueError):
            pass  # not listening yet
        stop.wait(0.2)


def _log_end(logs: Path, name: str) -> str:
    log = logs / f"{name}.log"
    return f"the end of {log}:\n{log.read_text(errors='replace')[-2000:]}"


def _show(
    reader: AnswerReader,
    begin_s: float,
    end_s: float | None,
    stop: threading.Event,
    children: dict[str, subprocess.Popen[bytes]],
    logs: Path,
) -> None:
    """Refresh the screen (without a terminal: print a line every few seconds) until the end.

    Raises:
        ServiceError: A child process has ended.
    """
    from rich.console import Console
    from rich.live import Live

    from stream_app.monitor.dashboard import screen, text_line

    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        shown_s = begin_s
        while not stop.is_set() and (end_s is None or time.monotonic() < end_s):
            reader.read(_REFRESH_S)
            for name, child in children.items():
                if child.poll() is not None:
                    raise ServiceError(f"the {name} ended with status {child.poll()}; {_log_end(logs, name)}")
            now_s = time.monotonic()
            figures = (now_s - begin_s, reader.rate(), reader.board, reader.summary())
            if live is not None:
                live.update(screen(*figures), refresh=True)
            elif now_s - shown_s >= _PLAIN_EVERY_S:
                shown_s = now_s
                click.echo(text_line(*figures), err=True)


def _result(reader: AnswerReader, elapsed_s: float) -> dict[str, object]:
    summary, counts = reader.summary(), reader.board.counts
    events = summary.answers["intent-labels"] + counts["dead-letters"] + counts["late-events"]
    return {
        "events": events,
        "answers": summary.answers,
        "events_per_s": round(events / elapsed_s, 1) if elapsed_s else 0.0,
        "p50_ms": summary.p50_ms,
        "p99_ms": summary.p99_ms,
        "alerts_precision": None if summary.precision is None else round(summary.precision, 4),
        "alerts_judged": summary.alerts_judged,
        "alerts_recall": None if summary.recall is None else round(summary.recall, 4),
        "dead_letters": counts["dead-letters"],
        "late_events": counts["late-events"],
        "seconds": round(elapsed_s, 1),
    }
