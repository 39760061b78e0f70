"""`up`, `down` and the rest over two small servers that stand for Kafka and Redis; the true ones: tests/integration."""

from __future__ import annotations

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
from devservices.state import ServicesState, state_path
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

    def prepare(self, progress: Callable[[str], None]) -> None:
        self.data.mkdir(parents=True, exist_ok=True)

    def configure(self, port: int) -> list[str]:
        self.config.write_text(str(port))
        return [sys.executable, "-c", self.code, str(self.config)]


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
