"""Real Kafka and Redis for a checkout: `up` starts both and waits until they answer, `down` stops just these two.

`.services/` holds jars, data, logs, one `<server>.json` with port, pid and program of the last start, and `services.json`, which
is written when both answer and removed by `down`. The next start takes the program of the last one: another version might not see
the data. Every call takes the folder's lock, so two calls do not start two brokers. Running servers are found by command line,
not by a recorded pid (see `process`).
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from devservices import process
from devservices.kafka_broker import KafkaBroker
from devservices.ports import free_port, is_free
from devservices.redis_server import RedisServer
from devservices.state import KafkaService, RedisService, ServerProgram, ServicesState, state_path, write_atomically
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
    def prepare(self, progress: Progress, last: ServerProgram) -> ServerProgram: ...
    def configure(self, port: int, program: ServerProgram) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class _LastStart:
    """What `<server>.json` holds: 0 and "" where nothing is known. A file of an earlier release has no program."""

    port: int = 0
    pid: int = 0
    program: ServerProgram = field(default_factory=ServerProgram)


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One server as it is now; `program` is that of its last start. `port` and `pid` are 0 if never started, not running."""

    name: str
    condition: Literal["running", "not answering", "stopped"]
    port: int
    pid: int
    log: str
    program: ServerProgram = field(default_factory=ServerProgram)


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
                _record(server, root, _LastStart(_recorded(server, root).port))  # any version may begin anew
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
    return _restart_one(_servers(root)[0], root, progress or _silent, kill=kill)


def restart_redis(root: Path, *, kill: bool = False, progress: Progress | None = None) -> ServicesState:
    """Stop and start Redis on the same port and data; return when it answers."""
    return _restart_one(_servers(root)[1], root, progress or _silent, kill=kill)


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
        return _end(server, root, kill=kill)


def _restart_one(server: _Server, root: Path, progress: Progress, *, kill: bool) -> ServicesState:
    with _locked(root, progress):
        server.prepare(progress, _recorded(server, root).program)  # what cannot be started again is not stopped
        _end(server, root, kill=kill)
        _ensure(server, root, progress)
        return _write_state(root)


def _end(server: _Server, root: Path, *, kill: bool) -> int:
    pid = process.find(server.binary, server.config)
    if pid is None:
        return 0
    process.stop(pid, server.binary, server.config, kill=kill)
    # Stopped on purpose: the next start need not speak of a crash.
    _record(server, root, replace(_recorded(server, root), pid=0))
    return pid


def _ensure(server: _Server, root: Path, progress: Progress) -> None:
    """Start `server` unless it runs; return when it answers."""
    last = _recorded(server, root)
    pid = process.find(server.binary, server.config)
    if pid is not None:
        if process.wait_until(lambda: server.answers(last.port), _ANSWER_PATIENCE_S):
            progress(f"{server.name}: running on 127.0.0.1:{last.port}, pid {pid}")
            _record(server, root, replace(last, pid=pid))
            return
        progress(f"{server.name}: pid {pid} does not answer on port {last.port}; stopping it and starting anew")
        process.stop(pid, server.binary, server.config, patience_s=_HUNG_PATIENCE_S)
    elif last.pid and state_path(root).exists():
        progress(f"{server.name}: pid {last.pid} has crashed or was killed; starting it on its old data")
    _start(server, root, replace(last, program=server.prepare(progress, last.program)), progress)


def _start(server: _Server, root: Path, last: _LastStart, progress: Progress) -> None:
    wanted, program = last.port, last.program
    for _attempt in range(_START_ATTEMPTS):
        port = _port_for(server, wanted, progress)
        pid = process.spawn(server.configure(port, program), server.log)
        _record(server, root, _LastStart(port, pid, program))
        try:
            if _answers_or_ended(server, port, pid):
                progress(f"{server.name}: {program.version} started on 127.0.0.1:{port}, pid {pid}")
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
    last = _recorded(server, root)
    pid = process.find(server.binary, server.config)
    if pid is None:
        return ServiceStatus(server.name, "stopped", last.port, 0, str(server.log), last.program)
    answers = last.port != 0 and server.answers(last.port)
    return ServiceStatus(server.name, "running" if answers else "not answering", last.port, pid, str(server.log), last.program)


def _write_state(root: Path) -> ServicesState:
    kafka, redis = _servers(root)
    of_kafka, of_redis = _recorded(kafka, root), _recorded(redis, root)
    state = ServicesState(
        KafkaService(f"127.0.0.1:{of_kafka.port}", of_kafka.pid, str(kafka.log)),
        RedisService(f"redis://127.0.0.1:{of_redis.port}/0", of_redis.pid, str(redis.log)),
        "real",
    )
    state.save(state_path(root))
    return state


def _record_path(server: _Server, root: Path) -> Path:
    return root / ".services" / f"{server.name}.json"


def _record(server: _Server, root: Path, last: _LastStart) -> None:
    write_atomically(_record_path(server, root), json.dumps(asdict(last)) + "\n")


def _recorded(server: _Server, root: Path) -> _LastStart:
    """Return what is known of the last start; nothing, if there is no readable record."""
    try:
        record = json.loads(_record_path(server, root).read_text())
        return _LastStart(int(record["port"]), int(record["pid"]), ServerProgram(**record.get("program", {})))
    except (OSError, ValueError, KeyError, TypeError):
        return _LastStart()


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
