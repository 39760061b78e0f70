"""A redis-server as one local process with an append-only file: after a kill it has all but its last second.

Data and settings are in `.services/redis/`. It listens on 127.0.0.1 only and keeps its command line, which identifies it among
other Redis servers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from devservices.install import Progress
from devservices.probe import redis_answers
from devservices.redis_binary import choose_redis
from devservices.state import ServerProgram

DURABLE = 'appendonly yes\nappendfsync everysec\nsave ""\n'
IN_MEMORY = 'appendonly no\nsave ""\n'

_CONF = """\
bind 127.0.0.1
port {port}
protected-mode yes
dir "{data}"
daemonize no
# The command line stays as it is: it names this file, which identifies this server.
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
        """Its settings file. It is an argument of the process, which identifies the process as ours."""
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
        """Return whether it answers PING (it does not while it loads its data)."""
        return redis_answers(port)

    def prepare(self, progress: Progress, last: ServerProgram) -> ServerProgram:
        """Find or install the binary: that of the `last` start, or another one of the version that wrote the data."""
        return choose_redis([self.data], last.path, progress)

    def configure(self, port: int, program: ServerProgram) -> list[str]:
        """Write the settings for `port`; return the command line."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.config.write_text(redis_conf(port, self.data, DURABLE))
        return [program.path, str(self.config)]
