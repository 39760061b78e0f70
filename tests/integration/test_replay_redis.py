"""A replay whose state is in the real Redis is killed and goes on from what Redis has committed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from stream_app.config import RedisSettings, environ_from
from stream_app.logs.log_issues import LogIssues
from stream_app.replay.replay_job import Callbacks, ReplayOptions, replay_log
from tests.scoring import make_events
from tests.unit.stream_app.replay.test_canonical import SETTINGS, write_log
from tests.unit.stream_app.replay.test_resume import asked, counted, digests, killed


def test_a_replay_over_redis_that_was_killed_leaves_the_bytes_of_one_in_memory(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    events = make_events(800, users=[f"u-{n}" for n in range(40)], devices=["d-1", "d-2", "d-3"], span_ms=80_000_000)
    log = write_log(tmp_path / "log.jsonl", [*events, *events[::50]])
    settings = replace(SETTINGS, redis=RedisSettings(url=redis_url, prefix=f"{redis_prefix}live"))

    over_redis = ["--batch", "20", "--store", "redis", "--prefix", f"{redis_prefix}replay"]
    at = killed([*asked(tmp_path / "redis", log), *over_redis], tmp_path / "redis", {**os.environ, **environ_from(settings)})

    def replayed(folder: Path, prefix: str | None) -> dict[str, Any]:
        asked = ReplayOptions(paths=(str(log),), out=folder / "out", features_out=folder / "features", batch=20, prefix=prefix)
        return replay_log(settings, asked, LogIssues(), Callbacks())

    resumed, whole = replayed(tmp_path / "redis", f"{redis_prefix}replay"), replayed(tmp_path / "memory", None)
    assert at - 20 <= resumed["resumed_at"] <= at  # written, and perhaps not committed
    assert counted(resumed) == counted(whole)
    assert digests(tmp_path / "redis") == digests(tmp_path / "memory")
