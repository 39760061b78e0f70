"""`millrace worker --restart`: what is started again, and what is not."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_app.cli.serve.worker import supervise

# Appends a line to the file it is given, then ends with the status that stands in that line's place of the list.
_SCRIPT = """
import os, sys
path, statuses = sys.argv[1], sys.argv[2].split(",")
with open(path, "a+") as runs:
    runs.seek(0)
    run = len(runs.readlines())
    runs.write(os.environ["PROBE"] + "\\n")
sys.exit(int(statuses[min(run, len(statuses) - 1)]))
"""


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(path: Path, statuses: str) -> tuple[int, list[str]]:
    environ = {**os.environ, "PROBE": "seen"}
    status = supervise([sys.executable, "-c", _SCRIPT, str(path), statuses], environ, pauses_s=(0.01, 0.01, 0.01))
    return status, path.read_text().splitlines()


def test_a_crashed_worker_is_started_again_until_it_ends_on_purpose(tmp_path: Path) -> None:
    assert run(tmp_path / "runs", "1,70,0") == (0, ["seen"] * 3)


def test_wrong_settings_are_not_tried_again(tmp_path: Path) -> None:
    assert run(tmp_path / "runs", "2,0") == (2, ["seen"])


def test_a_worker_that_crashes_more_often_than_there_are_pauses_is_still_started_again(tmp_path: Path) -> None:
    assert run(tmp_path / "runs", "1,1,1,1,1,1,0") == (0, ["seen"] * 7)
