"""Addresses of the local services, and the JSON file that other processes read them from.

The addresses answered when the file was written. A reader must check them (`probe`): a server may have died since. The file is
replaced in one step, so a reader never sees half of it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

from stream_app.errors import ServiceError


@dataclass(frozen=True, slots=True)
class ServerProgram:
    """What runs a server: the path of the binary (Kafka: of Java), and name and version of the server; "" where unknown."""

    path: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class KafkaService:
    """A broker: `bootstrap` is host:port, `pid` its process, `log` a file ("" if it has none)."""

    bootstrap: str
    pid: int
    log: str = ""


@dataclass(frozen=True, slots=True)
class RedisService:
    """A Redis server: `url` names database 0, `pid` its process, `log` a file ("" if it has none)."""

    url: str
    pid: int
    log: str = ""


@dataclass(frozen=True, slots=True)
class ServicesState:
    """Both services. `kind` "embedded": a mock broker that knows only Kafka 2.3's requests, and state in memory."""

    kafka: KafkaService
    redis: RedisService
    kind: Literal["real", "embedded"]

    def to_json(self) -> str:
        """Return one line of JSON, the format of the state file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ServiceError: The text is not such a state.
        """
        try:
            tree = json.loads(text)
            return cls(KafkaService(**tree["kafka"]), RedisService(**tree["redis"]), tree["kind"])
        except (ValueError, KeyError, TypeError) as err:
            msg = f"not a services state: {text[:200]!r} ({err}); run `millrace services up` to write a new one"
            raise ServiceError(msg) from err

    def save(self, path: Path) -> None:
        """Write the state file at `path`, replacing an older one in one step."""
        write_atomically(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Return the state in the file at `path`, or None when there is no such file."""
        try:
            return cls.from_json(path.read_bytes())
        except FileNotFoundError:
            return None


def state_path(root: Path) -> Path:
    """Return the path of the state file of the checkout at `root`."""
    return root / ".services" / "services.json"


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(text)
    draft.replace(path)
