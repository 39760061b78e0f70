"""A durable redis-server of one test alone, to be filled, killed and started again, or copied."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

from devservices.ports import free_port
from devservices.probe import redis_answers
from devservices.process import wait_until
from devservices.redis_server import DURABLE, redis_conf

__all__ = ["OwnServer"]


class OwnServer:
    """Runs while inside `with`; `settings` are lines of its configuration beside the usual ones."""

    def __init__(self, folder: Path, *settings: str) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._settings = settings
        self.port = free_port(secrets.token_hex(4))
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> OwnServer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it on what its append-only file holds."""
        config = self._folder / "redis.conf"
        text = redis_conf(self.port, self._folder, DURABLE.replace("everysec", "always"))
        config.write_text("\n".join([text, *self._settings, ""]))
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(["redis-server", str(config)], stdout=log, stderr=log)
        assert wait_until(lambda: redis_answers(self.port), 20)

    def kill(self) -> None:
        """End it without warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
