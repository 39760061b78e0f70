"""A replay whose state is in the real Redis is killed and goes on from what Redis has committed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from stream_app.config import RedisSettings, Settings, environ_from
from tests.scoring import make_events
from tests.unit.stream_app.replay.test_canonical import write_log
from tests.unit.stream_app.replay.test_resume import CHECKOUT, digests

_LIMIT_S = 60.0


def test_a_replay_over_redis_that_was_killed_leaves_the_bytes_of_one_in_memory(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    events = make_events(800, users=[f"u-{n}" for n in range(40)], devices=["d-1", "d-2", "d-3"], span_ms=80_000_000)
    log = write_log(tmp_path / "log.jsonl", [*events, *events[::50]])
    environ = {**os.environ, **environ_from(Settings(redis=RedisSettings(url=redis_url, prefix=f"{redis_prefix}live")))}

    def command(folder: Path, *options: str) -> list[str]:
        out = ["--out", str(folder / "out"), "--features-out", str(folder / "features"), "--batch", "20"]
        return [sys.executable, "-m", "stream_app", "replay", str(log), *out, "--model", "none", *options]

    over_redis = command(tmp_path / "redis", "--store", "redis", "--prefix", f"{redis_prefix}replay")
    quiet = {"cwd": CHECKOUT, "env": environ, "stderr": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    with subprocess.Popen(over_redis, **quiet) as process:  # type: ignore[call-overload]
        checkpoint, deadline = tmp_path / "redis" / "out" / ".replay" / "checkpoint.json", time.monotonic() + _LIMIT_S
        while not checkpoint.exists() or json.loads(checkpoint.read_bytes())["points"][-1]["position"] < 200:
            assert time.monotonic() < deadline, "no checkpoints came"
            assert process.poll() is None, "the replay ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
    resumed, whole = (
        json.loads(subprocess.run(asked, check=True, timeout=_LIMIT_S, **quiet).stdout)  # type: ignore[call-overload]
        for asked in (over_redis, command(tmp_path / "memory"))
    )
    assert resumed["resumed_at"] >= 180
    for name in ("records", "duplicates", "answers", "complete"):
        assert resumed[name] == whole[name]
    assert digests(tmp_path / "redis") == digests(tmp_path / "memory")
