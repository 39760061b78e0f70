"""A replay that is killed and started again leaves the same bytes as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from tests.scoring import make_events
from tests.unit.stream_app.replay.test_canonical import write_log

CHECKOUT = Path(__file__).resolve().parents[4]
_LIMIT_S = 60.0


def command(folder: Path, log: Path, *options: str) -> list[str]:
    out = ["--out", str(folder / "out"), "--features-out", str(folder / "features")]
    return [sys.executable, "-m", "stream_app", "replay", str(log), *out, "--model", "none", "--batch", "50", *options]


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def run(folder: Path, log: Path, *options: str) -> dict[str, object]:
    done = subprocess.run(command(folder, log, *options), cwd=CHECKOUT, capture_output=True, timeout=_LIMIT_S, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def killed_at_a_checkpoint(folder: Path, log: Path) -> int:
    """Start a replay and kill it after its third checkpoint; returns the records of the last one."""
    with subprocess.Popen(
        command(folder, log, "--checkpoint-s", "0"), cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        checkpoint, seen, deadline = folder / "out" / ".replay" / "checkpoint.json", set[int](), time.monotonic() + _LIMIT_S
        while len(seen) < 3:
            assert time.monotonic() < deadline, "no checkpoints came"
            assert process.poll() is None, "the replay ended before it could be killed"
            if checkpoint.exists():
                seen.add(json.loads(checkpoint.read_bytes())["position"])
        os.kill(process.pid, signal.SIGKILL)
    return int(json.loads(checkpoint.read_bytes())["position"])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    events = make_events(3_000, users=[f"u-{n}" for n in range(40)], devices=["d-1", "d-2", "d-3"], span_ms=80_000_000)
    return write_log(tmp_path / "log.jsonl", [*events, *events[::50]])


def test_a_replay_that_was_killed_goes_on_and_leaves_the_same_bytes(log: Path, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", log)
    at = killed_at_a_checkpoint(tmp_path / "killed", log)
    resumed = run(tmp_path / "killed", log)
    assert resumed["resumed_at"] == at > 0
    assert {**resumed, "resumed_at": 0, "seconds": 0, "events_per_s": 0} == {
        **whole, "resumed_at": 0, "seconds": 0, "events_per_s": 0,
    }  # fmt: skip
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
