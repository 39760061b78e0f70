"""What is no file, or a disk without room, is one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[5]
MAPPING = """
name = "visits"
[source]
format = "csv"
[[record]]
topic = "clicks"
[record.fields]
event_id = "e-{row}"
user = "{user}"
event_time_ms = { column = "at", unit = "ms" }
action = "view"
item = "{item}"
"""
ROW = "u-1,1769860800000,i-1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "map.toml").write_text(MAPPING)
    (tmp_path / "visits.csv").write_text("user,at,item\n" + ROW * 2_000)
    return tmp_path


def told(folder: Path, command: str) -> tuple[int, str]:
    """Exit status and standard error of a command line; `$M` is millrace."""
    environ = {**os.environ, "PYTHONPATH": str(CHECKOUT), "M": f"{sys.executable} -m stream_app"}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("cat visits.csv | $M import /dev/stdin --mapping map.toml --to out.jsonl", "/dev/stdin is a pipe, and a log is read"),
        ("cat visits.csv | $M features suggest /dev/stdin", "/dev/stdin is a pipe, and a log is read"),
        ("$M import visits.csv --mapping map.toml --to /dev/stdout", "cannot write /dev/stdout: it is a pipe"),
    ],
)
def test_a_pipe_is_refused_in_one_sentence(folder: Path, command: str, says: str) -> None:
    status, error = told(folder, command)
    assert status == 2
    assert says in error
    assert "Traceback" not in error


def test_an_import_that_a_full_disk_stopped_says_so_and_goes_on(folder: Path) -> None:
    command = "$M import visits.csv --mapping map.toml --to out.jsonl"
    status, error = told(folder, f"ulimit -f 8; {command}")
    assert (status, "cannot write out.jsonl: File too large. Make room" in error) == (2, True), error
    assert "Traceback" not in error
    assert told(folder, command)[0] == 0
    lines = (folder / "out.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 2_000
