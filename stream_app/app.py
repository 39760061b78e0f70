"""Runs a live worker in this process: build it, serve until a signal, return the exit status."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from stream_app import wiring
from stream_app.admin.topics import plan_topics, require_topics
from stream_app.agents.run import run_sources
from stream_app.config import Settings
from stream_app.work_folder import work_folder

log = logging.getLogger(__name__)

# Event loop, model thread and consumer thread exchange short pieces of work. With the default of 5 ms each exchange waits that
# long for a busy thread: the median latency at 5,400 events/s was 390 ms instead of 70 ms (docs/log.md).
_SWITCH_INTERVAL_S: Final = 0.0005

# A batch allocates thousands of events and answers without reference cycles. Python's default searches them for cycles every 700
# objects and scans the whole process again and again; docs/log.md has the cost for each event.
_COLLECT_EVERY: Final = (50_000, 20, 20)


def run_worker(settings: Settings) -> int:
    """Serve until SIGTERM, SIGINT or a crash; blocks.

    Returns:
        Exit status: 0 after a signal, another one after a crash (the process manager then restarts the worker).

    Raises:
        ConfigError: The settings do not fit this machine.
        BrokerUnavailableError: No broker answers.
        ContractError: Model, catalogue or topics do not fit each other.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    kafka = settings.kafka
    require_topics(
        kafka.bootstrap, kafka.client_api_version, plan_topics(kafka.partitions, kafka.replication, kafka.topic_prefix)
    )
    _sweep(work_folder(settings.worker.folder))  # before half a minute of compilation: it may be refused
    worker = wiring.build_worker(settings)
    gc.collect()
    gc.freeze()  # modules, catalogue, model: never garbage, so never scan them
    gc.set_threshold(*_COLLECT_EVERY)
    try:
        with ExitStack() as background:
            for thread in worker.background:
                background.enter_context(thread)
            return run_sources(worker.options, worker.handler, worker.handler, worker.handler.close)
    finally:
        if worker.options.work_dir is not None:
            shutil.rmtree(worker.options.work_dir, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove the folders of killed workers of this machine; a worker that stops removes its own folder."""
    mine = f"worker-{socket.gethostname()}-"
    for old in folder.glob(f"{mine}*"):
        try:
            os.kill(int(old.name.removeprefix(mine)), 0)
        except (ProcessLookupError, ValueError):
            shutil.rmtree(old, ignore_errors=True)
        except PermissionError:
            pass  # it runs under another user
