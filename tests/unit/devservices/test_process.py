from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from devservices import process

BINARY = Path(sys.executable).name
WAIT = "import signal; print('ready', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)\nwhile True: signal.pause()"
FORKS = "import os, signal; os.fork(); print('ready', flush=True); signal.pause()"


class Started:
    """A Python that runs `code` as a server would: named by a configuration file."""

    def __init__(self, folder: Path, code: str) -> None:
        self.config, self.log = folder / "server.conf", folder / "server.log"
        self.config.write_text("")
        self.pid = process.spawn([sys.executable, "-c", code, str(self.config)], self.log)
        assert process.wait_until(lambda: b"ready" in self.log.read_bytes(), 20)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[list[Started]]:
    started: list[Started] = []
    yield started
    for each in started:
        process.stop(each.pid, BINARY, each.config, kill=True)


def test_a_started_process_is_found_by_its_configuration(start: list[Started], tmp_path: Path) -> None:
    start.append(server := Started(tmp_path, WAIT))
    assert process.find(BINARY, server.config) == server.pid
    assert os.getsid(server.pid) == server.pid  # the terminal's signals do not reach it


def test_it_is_not_taken_for_a_server_of_another_folder_or_name(start: list[Started], tmp_path: Path) -> None:
    start.append(server := Started(tmp_path, WAIT))
    assert not process.is_ours(server.pid, BINARY, tmp_path / "other.conf")
    assert not process.is_ours(server.pid, "java", server.config)


def test_a_stopped_process_is_gone_and_leaves_no_zombie(start: list[Started], tmp_path: Path) -> None:
    start.append(server := Started(tmp_path, WAIT))
    assert process.stop(server.pid, BINARY, server.config) is False
    assert not psutil.pid_exists(server.pid)


def test_a_process_that_ignores_sigterm_is_killed(start: list[Started], tmp_path: Path) -> None:
    start.append(server := Started(tmp_path, STUBBORN))
    assert process.stop(server.pid, BINARY, server.config, patience_s=0.2) is True
    assert process.find(BINARY, server.config) is None


def test_a_pid_that_belongs_to_another_process_now_is_not_signalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, signal.Signals]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    process.stop(os.getpid(), "redis-server", tmp_path / "redis.conf")  # as if our old pid were this test's process
    process.stop(1, "redis-server", tmp_path / "redis.conf", kill=True)
    assert sent == []


def test_a_forked_helper_is_not_taken_for_the_server(start: list[Started], tmp_path: Path) -> None:
    start.append(server := Started(tmp_path, FORKS))
    helpers = psutil.Process(server.pid).children()
    try:
        assert process.find(BINARY, server.config) == server.pid
    finally:
        for helper in helpers:
            helper.kill()


def test_a_process_that_ends_at_once_is_not_found(tmp_path: Path) -> None:
    config = tmp_path / "server.conf"
    pid = process.spawn([sys.executable, "-c", "", str(config)], tmp_path / "server.log")
    assert process.wait_until(lambda: process.find(BINARY, config) is None, 20)
    assert process.stop(pid, BINARY, config) is False
    assert not psutil.pid_exists(pid)
