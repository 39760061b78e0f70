"""A redis-server as one local process, append-only file on: a killed one comes back with all but its last second.

Data and settings live in `.services/redis/`. It listens on 127.0.0.1 only and keeps its command line as it was given,
so that it can be told from any other Redis.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from devservices.install import Progress, bundled_redis, redis_server
from devservices.probe import redis_answers
from stream_app.errors import ServiceError

__all__ = ["DURABLE", "IN_MEMORY", "RedisServer", "redis_conf"]

DURABLE = 'appendonly yes\nappendfsync everysec\nsave ""\n'
IN_MEMORY = 'appendonly no\nsave ""\n'

_CONF = """\
bind 127.0.0.1
port {port}
protected-mode yes
dir "{data}"
daemonize no
# The command line stays as given: it names this file, and so tells this server from any other.
set-proc-title no
# Nobody but the tests and the worker of this machine writes here; refusing writes for want of memory beats swapping.
maxmemory-policy noeviction
{durability}"""


def redis_conf(port: int, data: Path, durability: str) -> str:
    """Return the settings of a server on 127.0.0.1:`port` that keeps its files in `data`."""
    return _CONF.format(port=port, data=data, durability=durability)


@dataclass(frozen=True, slots=True)
class RedisServer:
    """The Redis of the checkout whose service folder is `folder` (absolute)."""

    folder: Path
    name: str = "redis"
    binary: str = "redis-server"
    patience_s: float = 60.0  # loading an append-only file of some GB

    @property
    def config(self) -> Path:
        """Its settings file; being an argument of the process, it tells ours from others."""
        return self.folder / "redis" / "redis.conf"

    @property
    def log(self) -> Path:
        """Where it logs to."""
        return self.folder / "redis" / "redis.log"

    @property
    def data(self) -> Path:
        """The folder of its append-only file."""
        return self.folder / "redis" / "data"

    def answers(self, port: int) -> bool:
        """Tell whether it answers PING (it does not while it loads its data)."""
        return redis_answers(port)

    def prepare(self, progress: Progress) -> None:
        """Find or install the binary."""
        redis_server(progress)

    def configure(self, port: int) -> list[str]:
        """Write the settings for `port`; return the command line."""
        binary = shutil.which(self.binary) or bundled_redis()
        if binary is None:
            msg = "no redis-server on PATH; run `millrace services up`, which installs one, or install it"
            raise ServiceError(msg)
        self.data.mkdir(parents=True, exist_ok=True)
        self.config.write_text(redis_conf(port, self.data, DURABLE))
        return [binary, str(self.config)]
