"""A replay that is killed and started again leaves the same bytes as one that was not: on one process, and on several."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from stream_app.errors import ServiceError
from stream_app.logs.log_issues import LogIssues
from stream_app.replay.replay_job import Callbacks, ReplayOptions, replay_log
from tests.scoring import make_events
from tests.unit.stream_app.replay.test_canonical import SETTINGS, write_log

CHECKOUT = Path(__file__).resolve().parents[4]
REPLAY = [sys.executable, "-m", "stream_app", "replay"]
_LIMIT_S = 120.0


def asked(folder: Path, log: Path) -> list[str]:
    out = ["--out", str(folder / "out"), "--features-out", str(folder / "features")]
    return [str(log), *out, "--model", "none", "--batch", "50"]


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def killed(options: list[str], folder: Path, environ: Mapping[str, str] = os.environ) -> int:
    """Start a replay and kill it after its third checkpoint; returns the records of the last one."""
    with subprocess.Popen(
        [*REPLAY, *options], cwd=CHECKOUT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        checkpoint, seen, deadline = folder / "out" / ".replay" / "checkpoint.json", set[int](), time.monotonic() + _LIMIT_S
        while len(seen) < 3:
            assert time.monotonic() < deadline, "no checkpoints came"
            assert process.poll() is None, "the replay ended before it could be killed"
            if checkpoint.exists():
                seen.add(position_of(checkpoint))
            time.sleep(0.005)  # leave the core to the replay
        os.kill(process.pid, signal.SIGKILL)
    return position_of(checkpoint)


def position_of(checkpoint: Path) -> int:
    return int(json.loads(checkpoint.read_bytes())["points"][-1]["position"])


def counted(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in ("resumed_at", "seconds", "events_per_s")}


def replayed(log: Path, folder: Path, callbacks: Callbacks, **options: Any) -> dict[str, Any]:
    asked = ReplayOptions(paths=(str(log),), out=folder / "out", features_out=folder / "features", batch=50, **options)
    return replay_log(SETTINGS, asked, LogIssues(), callbacks)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many events of one time, so that segments end elsewhere than batches; copies, and labels that are none."""
    events = make_events(1_600, users=[f"u-{n}" for n in range(40)], devices=["d-1", "d-2", "d-3"], span_ms=80_000_000)
    events = [replace(event, event_time_ms=event.event_time_ms // 100_000 * 100_000) for event in events]
    path = write_log(tmp_path_factory.mktemp("log") / "log.jsonl", [*events, *events[::50]])
    with path.open("ab") as file:
        for event in events[::100]:
            file.write(b'{"topic":"labels","key":"u","value":"{}","time_ms":%d}\n' % event.event_time_ms)
    return path


@pytest.fixture(scope="module")
def whole(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, str]]:
    """Last line and files of an uninterrupted replay on one process."""
    folder = tmp_path_factory.mktemp("whole")
    return counted(replayed(log, folder, Callbacks())), digests(folder)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_replay_that_was_killed_goes_on_and_leaves_the_same_bytes(
    log: Path, whole: tuple[dict[str, Any], dict[str, str]], processes: int, tmp_path: Path
) -> None:
    at = killed([*asked(tmp_path, log), "--checkpoint-s", "0", "--processes", str(processes)], tmp_path)
    resumed = replayed(log, tmp_path, Callbacks(), processes=processes)
    assert resumed["resumed_at"] == at > 0
    assert (counted(resumed), digests(tmp_path)) == whole


def test_any_number_of_processes_goes_on_from_where_any_other_ended_or_a_process_was_killed(
    log: Path, whole: tuple[dict[str, Any], dict[str, str]], tmp_path: Path
) -> None:
    def kill(done: int, _note: str) -> None:
        if done > 400:
            os.kill(multiprocessing.active_children()[1].pid or 0, signal.SIGKILL)

    with pytest.raises(ServiceError, match="with --out it goes on from its last checkpoint"):
        replayed(log, tmp_path, Callbacks(progress=kill), processes=2, checkpoint_s=0.0)
    stopped = replayed(log, tmp_path, Callbacks(stop=lambda: True), processes=1)
    assert (stopped["complete"], stopped["resumable"]) == (False, True)
    resumed = replayed(log, tmp_path, Callbacks(), processes=2)
    assert 0 < stopped["resumed_at"] < resumed["resumed_at"] < resumed["records"]
    assert (counted(resumed), digests(tmp_path)) == whole
