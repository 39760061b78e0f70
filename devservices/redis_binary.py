"""Choose the redis-server for data that exist: the files name the version that wrote them, and no other version may open them.

An older server does not see a newer one's files and starts empty; what a newer one has written, an older one cannot read again.
Versions with the same first two numbers share their format.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from devservices.install import Progress, bundled_redis, redis_server, system_redis
from devservices.state import ServerProgram
from stream_app.errors import ServiceError

# Redis 7 and later keep several files in this folder and list them in a manifest; earlier ones have one file beside it.
_FOLDER: Final = "appendonlydir"
_MANIFEST: Final = "appendonly.aof.manifest"
_OLD_FILE: Final = "appendonly.aof"
_FOLDER_SINCE: Final = 7
_SOME_LATER: Final = f"Redis {_FOLDER_SINCE} or later"

_BASE: Final = re.compile(r"^file (\S+) seq \d+ type b\b", re.MULTILINE)
# A snapshot begins with its format, then the version of the server: 0xFA, length and name, length and value.
_HEADER: Final = re.compile(rb"(?:REDIS|VALKEY)\d+\xfa.(redis|valkey)-ver[\x01-\x3f]([0-9.]+)", re.DOTALL)
_HEADER_BYTES: Final = 64
_SAID: Final = re.compile(r"\b(Redis|Valkey) server v=([0-9.]+)")
_PATIENCE_S: Final = 30


def choose_redis(data: Sequence[Path], pinned: str, progress: Progress) -> ServerProgram:
    """Return the redis-server to start on the folders `data`: `pinned` if it is still there, else one that fits.

    Args:
        data: Folders of append-only files; they may be empty or missing.
        pinned: Path of the server that ran on them last; "" if that is unknown.
        progress: Called with a line when a server is installed, or another one than usual is taken.

    Raises:
        ServiceError: There is no redis-server, or none of the version that wrote the data. Nothing was touched.
    """
    usual = _program(pinned) if os.access(pinned, os.X_OK) else _program(redis_server(progress))
    wrote = {folder: data_version(folder) for folder in data}
    for server in (usual, *_installed()):
        if all(_reads(server.version, version) for version in wrote.values()):
            if server is not usual:
                progress(f"{server.path} ({server.version}) runs, since it wrote the data; {usual.path} is {usual.version}")
            return server
    raise ServiceError(_refusal(*next(each for each in wrote.items() if not _reads(usual.version, each[1])), usual))


def data_version(data: Path) -> str:
    """Return which server wrote the append-only files in `data`, "Redis 7.0.15" for example; "" if none or nothing says so."""
    folder = data / _FOLDER
    if not folder.exists():
        return _version_in(data / _OLD_FILE)
    try:
        base = _BASE.search((folder / _MANIFEST).read_text(errors="replace"))
    except OSError:
        base = None
    version = _version_in(folder / base[1]) if base else ""
    # A later server has put an older one's file into the folder, and not rewritten it yet; or the file is not a snapshot.
    return version if version and _numbers(version)[0] >= _FOLDER_SINCE else _SOME_LATER


def _version_in(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            header = _HEADER.match(opened.read(_HEADER_BYTES))
    except OSError:
        return ""
    return f"{header[1].decode().capitalize()} {header[2].decode()}" if header else ""


def _program(path: str) -> ServerProgram:
    try:
        said = subprocess.run([path, "--version"], check=False, capture_output=True, text=True, timeout=_PATIENCE_S).stdout
    except (OSError, subprocess.TimeoutExpired) as err:
        raise ServiceError(f"{path} --version failed: {err}; install a redis-server that runs on this machine") from err
    version = _SAID.search(said)
    if version is None:
        raise ServiceError(f"{path} --version does not name its version: {said.strip()[:200]!r}; install a redis-server")
    return ServerProgram(path, " ".join(version.groups()))


def _installed() -> Iterator[ServerProgram]:
    return (_program(path) for path in (system_redis(), bundled_redis()) if path)


def _reads(server: str, data: str) -> bool:
    """Return whether `server` may open the files that `data` wrote; both as `data_version` names them."""
    if not data:
        return True
    if data == _SOME_LATER:
        return _numbers(server)[0] >= _FOLDER_SINCE
    product = data.partition(" ")[0]
    return server.startswith(product) and _numbers(server)[:2] == _numbers(data)[:2]


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _refusal(folder: Path, wrote: str, server: ServerProgram) -> str:
    return (
        f"the data in {folder} were written by {wrote}, but the redis-server here is {server.version} ({server.path}); an older "
        "server does not see a newer one's data and starts empty, and an older one cannot read again what a newer one has "
        f"written. Nothing was started or changed. Operator action: install {wrote} again (the first two numbers count); or move "
        "the data to a newer version, see `Another version of Redis` in docs/runbook.md; or give the data up with `--wipe` "
        "(`millrace services down --wipe`, of a cluster `millrace services cluster down --wipe`), then start again"
    )
