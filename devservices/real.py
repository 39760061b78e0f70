"""Real Kafka and Redis for a checkout: `up` starts both and waits until they answer, `down` stops just these two.

`.services/` holds jars, data, logs, one `<server>.json` with the port and pid of the last start, and `services.json`, which is
written when both answer and removed by `down`. Every call takes the folder's lock, so two calls do not start two brokers. Running
servers are found by command line, not by a recorded pid (see `process`).
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from devservices import process
from devservices.kafka_broker import KafkaBroker
from devservices.ports import free_port, is_free
from devservices.redis_server import RedisServer
from devservices.state import KafkaService, RedisService, ServicesState, state_path, write_atomically
from stream_app.errors import ServiceError

_LOCK_PATIENCE_S = 900.0  # the other `up` may be fetching jars
_START_ATTEMPTS = 3  # another program may take the port between the look and the start
_PORT_PATIENCE_S = 5.0
_HUNG_PATIENCE_S = 5.0  # one that does not answer rarely ends by itself
_ANSWER_PATIENCE_S = 10.0  # for one that runs already: longer than a long garbage collection

Progress = Callable[[str], None]


class _Server(Protocol):
    """What `KafkaBroker` and `RedisServer` have in common."""

    @property
    def name(self) -> str: ...
    @property
    def binary(self) -> str: ...
    @property
    def patience_s(self) -> float: ...
    @property
    def config(self) -> Path: ...
    @property
    def log(self) -> Path: ...
    @property
    def data(self) -> Path: ...
    def answers(self, port: int) -> bool: ...
    def prepare(self, progress: Progress) -> None: ...
    def configure(self, port: int) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One server as it is now. `port` and `pid` are 0 when it was never started or does not run."""

    name: str
    condition: Literal["running", "not answering", "stopped"]
    port: int
    pid: int
    log: str


def up(root: Path, progress: Progress) -> ServicesState:
    """Start Kafka and Redis of the checkout `root`, unless they run and answer already.

    Raises:
        ServiceError: One of them could not be fetched, installed or started. What was started stays, for a next try.
    """
    with _locked(root, progress):
        for server in _servers(root):
            _ensure(server, root, progress)
        return _write_state(root)


def down(root: Path, *, wipe: bool = False) -> list[str]:
    """Stop both; with `wipe` remove their data too. Return a line for each thing done."""
    done = []
    with _locked(root, _silent):
        state_path(root).unlink(missing_ok=True)
        for server in _servers(root):
            pid = process.find(server.binary, server.config)
            if pid is not None:
                killed = process.stop(pid, server.binary, server.config)
                done.append(f"{server.name}: pid {pid} {'killed, it did not end by itself' if killed else 'stopped'}")
            if wipe and server.data.exists():
                shutil.rmtree(server.data)
                done.append(f"{server.name}: removed {server.data}")
    return done


def status(root: Path) -> list[ServiceStatus]:
    """Look at both, now. Changes nothing."""
    return [_status(server, root) for server in _servers(root)]


def start_kafka(root: Path, progress: Progress | None = None) -> ServicesState:
    """Start the broker alone if it does not run; return when it answers."""
    return _start_one(_servers(root)[0], root, progress or _silent)


def start_redis(root: Path, progress: Progress | None = None) -> ServicesState:
    """Start Redis alone if it does not run; return when it answers."""
    return _start_one(_servers(root)[1], root, progress or _silent)


def stop_kafka(root: Path, *, kill: bool = False) -> int:
    """Stop the broker alone (`kill`: with SIGKILL); return the pid it had, 0 if it did not run."""
    return _stop_one(_servers(root)[0], root, kill=kill)


def stop_redis(root: Path, *, kill: bool = False) -> int:
    """Stop Redis alone (`kill`: with SIGKILL); return the pid it had, 0 if it did not run."""
    return _stop_one(_servers(root)[1], root, kill=kill)


def restart_kafka(root: Path, *, kill: bool = False, progress: Progress | None = None) -> ServicesState:
    """Stop and start the broker on the same port and data; return when it answers."""
    stop_kafka(root, kill=kill)
    return start_kafka(root, progress)


def restart_redis(root: Path, *, kill: bool = False, progress: Progress | None = None) -> ServicesState:
    """Stop and start Redis on the same port and data; return when it answers."""
    stop_redis(root, kill=kill)
    return start_redis(root, progress)


def _silent(_line: str) -> None:
    return


def _servers(root: Path) -> tuple[_Server, _Server]:
    folder = root.resolve() / ".services"
    return KafkaBroker(folder), RedisServer(folder)


def _start_one(server: _Server, root: Path, progress: Progress) -> ServicesState:
    with _locked(root, progress):
        _ensure(server, root, progress)
        return _write_state(root)


def _stop_one(server: _Server, root: Path, *, kill: bool) -> int:
    with _locked(root, _silent):
        pid = process.find(server.binary, server.config)
        if pid is None:
            return 0
        process.stop(pid, server.binary, server.config, kill=kill)
        port, _ = _recorded(server, root)
        _record(server, root, port, 0)  # stopped on purpose: the next start need not speak of a crash
        return pid


def _ensure(server: _Server, root: Path, progress: Progress) -> None:
    """Start `server` unless it runs; return when it answers."""
    port, last_pid = _recorded(server, root)
    pid = process.find(server.binary, server.config)
    if pid is not None:
        if process.wait_until(lambda: server.answers(port), _ANSWER_PATIENCE_S):
            progress(f"{server.name}: running on 127.0.0.1:{port}, pid {pid}")
            _record(server, root, port, pid)
            return
        progress(f"{server.name}: pid {pid} does not answer on port {port}; stopping it and starting anew")
        process.stop(pid, server.binary, server.config, patience_s=_HUNG_PATIENCE_S)
    elif last_pid and state_path(root).exists():
        progress(f"{server.name}: pid {last_pid} has crashed or was killed; starting it on its old data")
    server.prepare(progress)
    _start(server, root, port, progress)


def _start(server: _Server, root: Path, wanted: int, progress: Progress) -> None:
    for _attempt in range(_START_ATTEMPTS):
        port = _port_for(server, wanted, progress)
        pid = process.spawn(server.configure(port), server.log)
        _record(server, root, port, pid)
        try:
            if _answers_or_ended(server, port, pid):
                progress(f"{server.name}: started on 127.0.0.1:{port}, pid {pid}")
                return
        except BaseException:  # Ctrl-C while waiting: stop the process, which has no record yet
            process.stop(pid, server.binary, server.config, kill=True)
            raise
        process.stop(pid, server.binary, server.config, kill=True)
        if process.wait_until(lambda: is_free(port), _PORT_PATIENCE_S):  # noqa: B023  # then the port was not to blame
            break
        wanted = port
    msg = f"{server.name} did not answer on 127.0.0.1:{port}; the end of {server.log}:\n{_tail(server.log)}"
    raise ServiceError(msg)


def _port_for(server: _Server, wanted: int, progress: Progress) -> int:
    """Return `wanted`, or another port if another program has it."""
    # A killed process lets go of its port a moment after it is gone from the process list.
    if wanted and process.wait_until(lambda: is_free(wanted), _PORT_PATIENCE_S):
        return wanted
    port = free_port(str(server.config), frozenset({wanted}))
    if wanted:
        progress(f"{server.name}: port {wanted} is taken by another program; moving to {port}")
    return port


def _answers_or_ended(server: _Server, port: int, pid: int) -> bool:
    """Wait until it answers (True), or has ended or used up its patience (False)."""

    def ended() -> bool:
        return not process.is_ours(pid, server.binary, server.config)

    process.wait_until(lambda: server.answers(port) or ended(), server.patience_s)
    return not ended() and server.answers(port)


def _status(server: _Server, root: Path) -> ServiceStatus:
    port, _ = _recorded(server, root)
    pid = process.find(server.binary, server.config)
    if pid is None:
        return ServiceStatus(server.name, "stopped", port, 0, str(server.log))
    answers = port != 0 and server.answers(port)
    return ServiceStatus(server.name, "running" if answers else "not answering", port, pid, str(server.log))


def _write_state(root: Path) -> ServicesState:
    kafka, redis = _servers(root)
    (kafka_port, kafka_pid), (redis_port, redis_pid) = _recorded(kafka, root), _recorded(redis, root)
    state = ServicesState(
        KafkaService(f"127.0.0.1:{kafka_port}", kafka_pid, str(kafka.log)),
        RedisService(f"redis://127.0.0.1:{redis_port}/0", redis_pid, str(redis.log)),
        "real",
    )
    state.save(state_path(root))
    return state


def _record_path(server: _Server, root: Path) -> Path:
    return root / ".services" / f"{server.name}.json"


def _record(server: _Server, root: Path, port: int, pid: int) -> None:
    write_atomically(_record_path(server, root), json.dumps({"port": port, "pid": pid}) + "\n")


def _recorded(server: _Server, root: Path) -> tuple[int, int]:
    """Return port and pid of the last start, (0, 0) if there is no readable record."""
    try:
        record = json.loads(_record_path(server, root).read_text())
        return int(record["port"]), int(record["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0


def _tail(log: Path, size: int = 1500) -> str:
    try:
        return log.read_text(errors="replace")[-size:]
    except OSError:
        return "(no log)"


@contextmanager
def _locked(root: Path, progress: Progress) -> Iterator[None]:
    """Hold the folder's lock; wait for another holder."""
    folder = root / ".services"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        if not _try_lock(lock.fileno()):
            progress(f"another process is at work in {folder}; waiting for it")
            if not process.wait_until(lambda: _try_lock(lock.fileno()), _LOCK_PATIENCE_S):
                msg = f"{folder / 'lock'} is held for over {_LOCK_PATIENCE_S:.0f} s; end the command that does"
                raise ServiceError(msg)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
