"""Processes are ended by their pid, started again when they crash, and never left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from verification.harness.processes import Fleet, FleetError, child_environment, log_tail, run_python

LASTING = ["http.server", "--bind", "127.0.0.1", "0"]  # runs until it is told to end; any free port
CRASHING = ["json.tool", "/no/such/file"]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_nothing_is_left_after_the_block_whatever_happened_in_it(tmp_path: Path) -> None:
    pids: list[int] = []

    def run() -> None:
        with Fleet(tmp_path) as fleet:
            pids.extend(fleet.start(name, LASTING, {}) for name in ("a", "b"))
            assert all(map(alive, pids))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert len(pids) == 2
    assert not any(map(alive, pids))


def test_a_killed_process_comes_back_under_another_pid_and_is_no_crash(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        first = fleet.start("a", LASTING, {})
        fleet.kill("a")
        assert not alive(first)
        second = fleet.restart("a")
        assert second != first
        fleet.tend()
        assert fleet.self_exits == 0


def test_a_process_that_ends_by_itself_is_started_again_and_counted(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        fleet.start("a", CRASHING, {})
        until(lambda: fleet.ended("a") is not None)
        fleet.tend()
        assert fleet.self_exits == 1
        assert fleet.names() == ["a"]


def test_a_crash_loop_ends_the_run_with_the_end_of_the_log(tmp_path: Path) -> None:
    with Fleet(tmp_path, max_self_exits=0) as fleet:
        fleet.start("a", CRASHING, {})
        until(lambda: fleet.ended("a") is not None)
        with pytest.raises(FleetError, match="No such file"):
            fleet.tend()


def test_a_command_that_fails_is_an_error_with_its_output(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"status [12]"):
        run_python(CRASHING, {}, tmp_path / "log")
    assert "usage" in run_python(["json.tool", "--help"], {}, tmp_path / "log")


def test_settings_of_the_callers_shell_do_not_reach_the_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_REDIS_URL", "redis://elsewhere:1/0")
    environment = child_environment({"MILLRACE_KAFKA_GROUP": "g"})
    assert "MILLRACE_REDIS_URL" not in environment
    assert environment["MILLRACE_KAFKA_GROUP"] == "g"
    assert environment["PATH"] == os.environ["PATH"]


def test_a_log_is_shown_by_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert "does not exist" in log_tail(log)
    log.write_text("\n".join(map(str, range(100))))
    assert log_tail(log, 2) == "    98\n    99"
