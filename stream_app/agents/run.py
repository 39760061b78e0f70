"""Runs a worker in this process until SIGTERM, SIGINT or a crash, and returns its exit status.

Invariant: the process never outlives a crash or a signal by more than the shutdown timeout. A worker that hangs while it stops
would keep its partitions (its heartbeats have a thread of their own) and process nothing.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust

from stream_app.agents.app_options import source_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stream_app.agents.options import AgentOptions
    from stream_app.agents.ports import AssignmentHooks, BatchHandler

    Close = Callable[[], Awaitable[None]]

log = logging.getLogger(__name__)

_HUNG = 70  # EX_SOFTWARE


class _QuietWorker(faust.Worker):
    """Faust's worker without spinner, process title and logging set-up; our command line does these."""

    def __init__(
        self,
        app: faust.App,
        *,
        on_stopping: Callable[[], None],
        close: Close | None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(app, quiet=True, override_logging=False, redirect_stdouts=False, **kwargs)
        self.spinner = None
        self._on_stopping = on_stopping
        self._close = close

    async def on_shutdown(self) -> None:
        """Close the handler; Faust calls this when the app has stopped and the loop still runs."""
        await super().on_shutdown()
        if self._close is not None:
            await self._close()

    def _setproctitle(self, info: str, *, ident: str = "") -> None:
        """Keep the process's name."""

    def _on_sigint(self) -> None:
        self._on_stopping()
        super()._on_sigint()

    def _on_sigterm(self) -> None:
        self._on_stopping()
        super()._on_sigterm()

    def _crash(self, reason: BaseException) -> None:
        self._on_stopping()
        super()._crash(self.crash_reason or reason)  # keep the first reason; later ones are its consequences


def run_sources(options: AgentOptions, hooks: AssignmentHooks, handler: BatchHandler, close: Close | None = None) -> int:
    """Run the worker's Faust side in the main thread; blocks until it has stopped.

    The caller has set up logging. SIGTERM and SIGINT drain the batches in flight (at most `drain_timeout_ms`), commit and stop;
    `close` is awaited at the end.

    Returns:
        The exit status: 0 after a signal, 1 after a crash.
    """
    if options.work_dir is not None:
        options.work_dir.mkdir(parents=True, exist_ok=True)
        return _run(source_app(options, hooks, handler, options.work_dir), options, close)
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        return _run(source_app(options, hooks, handler, Path(folder)), options, close)


def _run(app: faust.App, options: AgentOptions, close: Close | None) -> int:
    deadline = threading.Timer(options.shutdown_timeout_ms / 1000, _end_hard, [options.shutdown_timeout_ms])
    deadline.daemon = True

    def on_stopping() -> None:
        if not deadline.is_alive() and not deadline.finished.is_set():
            deadline.start()

    worker = _QuietWorker(app, on_stopping=on_stopping, close=close, loglevel=None, workdir=Path.cwd())
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
        reason = worker.crash_reason or end.__context__  # the latter if the worker failed before it ran
    finally:
        deadline.cancel()
    if reason is not None:
        log.critical("the worker ended with an error: %s: %s", type(reason).__name__, reason)
        return status or 1
    return status


def _end_hard(timeout_ms: int) -> None:
    log.critical("the worker did not stop in %d ms; ending the process", timeout_ms)
    os._exit(_HUNG)
