"""A replay whose state is in the real Redis is killed and goes on from what Redis has committed."""

from __future__ import annotations

import os
from pathlib import Path

from stream_app.config import RedisSettings, Settings, environ_from
from tests.scoring import make_events
from tests.unit.stream_app.replay.test_canonical import write_log
from tests.unit.stream_app.replay.test_resume import asked, counted, digests, killed, run_command


def test_a_replay_over_redis_that_was_killed_leaves_the_bytes_of_one_in_memory(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    events = make_events(800, users=[f"u-{n}" for n in range(40)], devices=["d-1", "d-2", "d-3"], span_ms=80_000_000)
    log = write_log(tmp_path / "log.jsonl", [*events, *events[::50]])
    environ = {**os.environ, **environ_from(Settings(redis=RedisSettings(url=redis_url, prefix=f"{redis_prefix}live")))}

    def options(folder: Path) -> list[str]:
        return [*asked(folder, log), "--batch", "20"]

    over_redis = [*options(tmp_path / "redis"), "--store", "redis", "--prefix", f"{redis_prefix}replay"]
    at = killed(over_redis, tmp_path / "redis", environ)
    resumed, whole = run_command(over_redis, environ), run_command(options(tmp_path / "memory"), environ)
    assert at - 20 <= resumed["resumed_at"] <= at  # written, and perhaps not committed
    assert counted(resumed) == counted(whole)
    assert digests(tmp_path / "redis") == digests(tmp_path / "memory")
