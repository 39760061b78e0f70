"""What the benchmarks' commands have alike: errors that end them, and the logs that they read."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from stream_app.errors import ServiceError
from stream_app.reporting.progress import Reporter
from verification.harness.command import files_of, reporting
from verification.harness.processes import FleetError
from verification.harness.raw_files import CARDS, TAOBAO


@pytest.mark.parametrize("error", [FleetError("it ended"), ServiceError("it ended"), ValueError("it ended")])
def test_an_error_of_ours_or_a_named_one_ends_the_command_with_its_message(error: Exception) -> None:
    with pytest.raises(click.ClickException, match="it ended"), reporting(ValueError):
        raise error


def test_any_other_error_is_a_fault_of_the_program_and_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), reporting(ValueError):
        raise ZeroDivisionError


def test_logs_that_are_absent_are_made_up_for_a_short_run_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.ClickException, match="--short"):
        files_of(tmp_path / "nothing", tmp_path / "made", 20, 20, Reporter(elapsed=True), short=False)
    made = files_of(tmp_path / "nothing", tmp_path / "made", 20, 20, Reporter(elapsed=True), short=True)
    assert made.kind == "simulated"
    assert "made-up" in capsys.readouterr().err


def test_logs_that_are_there_are_taken_and_said_to_be_real(tmp_path: Path) -> None:
    for path in (tmp_path / TAOBAO, tmp_path / CARDS):
        path.parent.mkdir()
        path.touch()
    files = files_of(tmp_path, tmp_path / "made", 20, 20, Reporter(elapsed=True), short=True)
    assert (files.taobao, files.cards, files.kind) == (tmp_path / TAOBAO, tmp_path / CARDS, "real")
    assert not (tmp_path / "made").exists()
