"""`up`, `down` and the rest over two small servers that stand for Kafka and Redis; the true ones: tests/integration."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from devservices import process, real
from devservices.probe import redis_answers
from devservices.state import ServerProgram, ServicesState, state_path
from stream_app.errors import ServiceError

# Answers PING as Redis does, until it is told to end.
SERVER = """
import pathlib, socket, sys
port = int(pathlib.Path(sys.argv[1]).read_text())
server = socket.create_server(("127.0.0.1", port))
while True:
    conversation, _ = server.accept()
    with conversation:
        conversation.recv(100)
        conversation.sendall(b"+PONG\\r\\n")
"""


@dataclass(frozen=True)
class SmallServer:
    folder: Path
    name: str
    code: str = SERVER
    binary: str = Path(sys.executable).name
    patience_s: float = 20.0
    refusal: str = ""

    @property
    def config(self) -> Path:
        return self.folder / self.name / "conf"

    @property
    def log(self) -> Path:
        return self.folder / self.name / "log"

    @property
    def data(self) -> Path:
        return self.folder / self.name / "data"

    def answers(self, port: int) -> bool:
        return redis_answers(port, timeout_s=0.2)

    def prepare(self, progress: Callable[[str], None], last: ServerProgram) -> ServerProgram:
        if self.refusal:
            raise ServiceError(self.refusal)
        self.data.mkdir(parents=True, exist_ok=True)
        return last if last.path else ServerProgram(sys.executable, "Small 1.0")

    def configure(self, port: int, program: ServerProgram) -> list[str]:
        self.config.write_text(str(port))
        return [program.path, "-c", self.code, str(self.config)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    use(monkeypatch, lambda name, folder: SmallServer(folder, name))
    monkeypatch.setattr(real, "_ANSWER_PATIENCE_S", 0.5)
    monkeypatch.setattr(real, "_PORT_PATIENCE_S", 1.0)
    monkeypatch.setattr(real, "_HUNG_PATIENCE_S", 0.2)
    yield tmp_path
    use(monkeypatch, lambda name, folder: SmallServer(folder, name))
    real.down(tmp_path)


def use(monkeypatch: pytest.MonkeyPatch, make: Callable[[str, Path], SmallServer]) -> None:
    def servers(root: Path) -> tuple[SmallServer, SmallServer]:
        folder = root.resolve() / ".services"
        return make("kafka", folder), make("redis", folder)

    monkeypatch.setattr(real, "_servers", servers)


def silent(_line: str) -> None:
    return


def conditions(root: Path) -> list[str]:
    return [each.condition for each in real.status(root)]


def port_of(state: ServicesState) -> int:
    return int(state.kafka.bootstrap.rpartition(":")[2])


def test_up_starts_both_and_says_where_they_are(root: Path) -> None:
    state = real.up(root, silent)
    assert conditions(root) == ["running", "running"]
    assert ServicesState.load(state_path(root)) == state


def test_a_second_up_reuses_both(root: Path) -> None:
    assert real.up(root, silent) == real.up(root, silent)


def test_down_ends_both_and_a_second_down_has_nothing_to_do(root: Path) -> None:
    state = real.up(root, silent)
    assert [line.split()[0:3:2] for line in real.down(root)] == [
        ["kafka:", str(state.kafka.pid)],
        ["redis:", str(state.redis.pid)],
    ]
    assert conditions(root) == ["stopped", "stopped"]
    assert not state_path(root).exists()
    assert real.down(root) == []


def test_a_crashed_one_is_noticed_and_comes_back_on_its_port_while_the_other_stays(root: Path) -> None:
    first = real.up(root, silent)
    os.kill(first.kafka.pid, signal.SIGKILL)
    psutil.Process(first.kafka.pid).wait(20)
    assert conditions(root) == ["stopped", "running"]
    lines: list[str] = []
    second = real.up(root, lines.append)
    assert any("crashed" in line and str(first.kafka.pid) in line for line in lines)
    assert second.redis == first.redis
    assert second.kafka.bootstrap == first.kafka.bootstrap
    assert second.kafka.pid != first.kafka.pid


def test_one_that_hangs_is_noticed_and_replaced(root: Path) -> None:
    first = real.up(root, silent)
    os.kill(first.kafka.pid, signal.SIGSTOP)
    assert conditions(root) == ["not answering", "running"]
    second = real.up(root, silent)
    assert second.kafka.pid != first.kafka.pid
    assert conditions(root) == ["running", "running"]


def test_when_its_port_is_taken_meanwhile_it_moves_and_says_so(root: Path) -> None:
    first = real.up(root, silent)
    real.stop_kafka(root, kill=True)
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", port_of(first))):
        second = real.start_kafka(root, lines.append)
    assert port_of(second) != port_of(first)
    assert any(f"port {port_of(first)} is taken" in line for line in lines)
    assert real.up(root, silent) == second


def test_a_lost_state_file_is_written_anew_for_the_running_ones(root: Path) -> None:
    state = real.up(root, silent)
    state_path(root).unlink()
    assert real.up(root, silent) == state


def test_one_alone_can_be_stopped_and_started(root: Path) -> None:
    state = real.up(root, silent)
    assert real.stop_redis(root) == state.redis.pid
    assert conditions(root) == ["running", "stopped"]
    assert real.stop_redis(root) == 0
    assert real.start_redis(root).redis.url == state.redis.url
    assert real.restart_kafka(root, kill=True).kafka.bootstrap == state.kafka.bootstrap
    assert conditions(root) == ["running", "running"]


def test_the_next_start_takes_the_program_of_the_last_one_until_the_data_are_wiped(root: Path, tmp_path: Path) -> None:
    real.up(root, silent)
    record = root / ".services" / "redis.json"
    pinned = tmp_path / "other" / Path(sys.executable).name
    pinned.parent.mkdir()
    pinned.symlink_to(sys.executable)
    record.write_text(json.dumps({**json.loads(record.read_text()), "program": {"path": str(pinned), "version": "Small 0.9"}}))
    real.restart_redis(root)
    assert real.status(root)[1].program == ServerProgram(str(pinned), "Small 0.9")
    assert psutil.Process(real.status(root)[1].pid).cmdline()[0] == str(pinned)
    real.down(root, wipe=True)
    assert real.status(root)[1].program == ServerProgram()


def test_a_record_of_an_earlier_release_names_no_program_and_is_read(root: Path) -> None:
    first = real.up(root, silent)
    for name, service in (("kafka", first.kafka), ("redis", first.redis)):
        port = json.loads((root / ".services" / f"{name}.json").read_text())["port"]
        (root / ".services" / f"{name}.json").write_text(json.dumps({"port": port, "pid": service.pid}))
    assert real.up(root, silent) == first
    assert real.restart_redis(root).redis.url == first.redis.url
    assert real.status(root)[1].program.version == "Small 1.0"


def test_one_that_could_not_start_again_is_not_stopped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = real.up(root, silent)
    use(monkeypatch, lambda name, folder: SmallServer(folder, name, refusal="written by Redis 9"))
    with pytest.raises(ServiceError, match="written by Redis 9"):
        real.restart_redis(root)
    assert real.status(root)[1].pid == state.redis.pid


def test_two_at_once_start_one_of_each(root: Path) -> None:
    states: list[ServicesState] = []
    threads = [threading.Thread(target=lambda: states.append(real.up(root, silent))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(states) == 2
    assert states[0] == states[1]


def test_one_that_cannot_start_is_an_error_with_the_end_of_its_log_and_leaves_no_process(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, lambda name, folder: SmallServer(folder, name, code="raise SystemExit('disk full')"))
    with pytest.raises(ServiceError, match="disk full"):
        real.up(root, silent)
    assert conditions(root) == ["stopped", "stopped"]


def test_an_interrupted_start_leaves_no_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(SmallServer, "answers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        real.up(root, silent)
    monkeypatch.undo()
    assert process.find(Path(sys.executable).name, root.resolve() / ".services" / "kafka" / "conf") is None


def test_wiping_removes_the_data_and_nothing_else(root: Path) -> None:
    real.up(root, silent)
    data = root / ".services" / "redis" / "data"
    real.down(root)
    assert data.exists()
    real.down(root, wipe=True)
    assert not data.exists()
    assert data.parent.exists()
