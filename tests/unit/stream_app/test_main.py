from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stream_app import __version__
from stream_app.__main__ import LazyGroup, millrace, run
from stream_app.cli import COMMANDS
from stream_app.errors import ConfigError, ContractError, MillraceError, ServiceError

CHECKOUT = Path(__file__).resolve().parents[3]
HEAVY = ("numba", "numpy", "faust", "aiokafka", "kafka", "confluent_kafka", "onnxruntime", "redis", "rich", "torch")


def millrace_process(*args: str, stdout: int | None = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stream_app", *args]
    return subprocess.run(command, cwd=CHECKOUT, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


@pytest.fixture
def failing() -> Iterator[list[BaseException]]:
    """A sub-command `fail` that raises what the test puts into the list."""
    raised: list[BaseException] = []

    @click.command("fail")
    def fail() -> None:
        raise raised[0]

    original = LazyGroup.get_command
    LazyGroup.get_command = lambda *_: fail  # type: ignore[method-assign]
    yield raised
    LazyGroup.get_command = original  # type: ignore[method-assign]


def test_help_names_the_commands_and_imports_nothing_heavy() -> None:
    script = (
        "import sys; from stream_app.__main__ import run; run(['--help'])\n"
        f"sys.exit(','.join(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.stderr == "\n"
    for name in ("topics", "tail", "doctor"):
        assert f"  {name} " in done.stdout
        assert COMMANDS[name][1] in done.stdout


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("name", ["topics", "tail", "doctor", "docs", "warm"])
def test_every_command_of_the_console_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f"  millrace {name}" in capsys.readouterr().out


def test_every_command_in_the_table_that_is_there_holds_a_click_command_of_its_name() -> None:
    context = click.Context(millrace)
    for name in millrace.list_commands(context):
        command = millrace.get_command(context, name)
        assert command is not None
        assert command.name == name


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["wroker"]) == 2
    assert "wroker" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [(ConfigError("a"), 2), (ServiceError("b"), 2), (ContractError("c"), 1), (MillraceError("d"), 1)],
)
def test_our_errors_become_their_message_and_a_status(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str], error: MillraceError, status: int
) -> None:
    failing.append(error)
    assert run(["fail"]) == status
    captured = capsys.readouterr()
    assert captured.err == f"millrace: {error}\n"
    assert captured.out == ""


def test_debug_lets_the_traceback_through(failing: list[BaseException]) -> None:
    failing.append(ContractError("c"))
    with pytest.raises(ContractError):
        run(["--debug", "fail"])


def test_a_fault_of_ours_is_not_hidden(failing: list[BaseException]) -> None:
    failing.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run(["fail"])


def test_ctrl_c_ends_with_the_shells_status_and_no_traceback(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(KeyboardInterrupt())
    assert run(["fail"]) == 130
    assert capsys.readouterr().err.strip() == ""


def test_a_reader_that_has_seen_enough_is_no_error(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing.append(BrokenPipeError())
    assert run(["fail"]) == 0
    assert capsys.readouterr().err == ""


def test_a_closed_pipe_leaves_no_complaint_behind() -> None:
    command = f"{sys.executable} -m stream_app --settings | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_wrong_settings_end_with_status_2_and_all_problems(tmp_path: Path) -> None:
    file = tmp_path / "millrace.toml"
    file.write_text("[kafka]\npartitions = 0\n[redis]\nprefx = 'a'\n")
    done = millrace_process("--config", str(file), "topics", "check")
    assert done.returncode == 2
    assert "the settings have 2 problems" in done.stderr
    assert "did you mean prefix?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broker_that_is_not_there_is_one_line_and_status_1(tmp_path: Path) -> None:
    file = tmp_path / "millrace.toml"
    file.write_text("[kafka]\nbootstrap = '127.0.0.1:1'\n")
    done = millrace_process("--config", str(file), "topics", "check")
    assert done.returncode == 1
    assert done.stderr.startswith("millrace: the broker at 127.0.0.1:1 did not answer")
    assert "millrace services up" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_setting_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--settings"]) == 0
    out = capsys.readouterr().out
    assert "MILLRACE_KAFKA_BOOTSTRAP (kafka.bootstrap, str, default '127.0.0.1:9092')" in out
