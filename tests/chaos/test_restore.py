"""The scripts of docs/runbook.md for a Redis that was lost, or is to be replaced, run as they stand on servers of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from devservices import real
from devservices.install import bundled_redis, system_redis
from devservices.redis_binary import data_version
from stream_app.config import environ_from
from tests.chaos.deployment import Deployment
from tests.integration.transport_harness import ROOT, until

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder with a Redis of its own, which may be lost."""
    folder = tmp_path / "checkout"
    yield folder
    real.down(folder)


def run(title: str, root: Path, environment: dict[str, str], prefix: str = "mr") -> str:
    """Run the block of the runbook that begins with the comment `title`, in the folder `root`; return what it printed."""
    [script] = re.findall(rf"```sh\n(# {title}\n.*?)```", (ROOT / "docs" / "runbook.md").read_text("utf-8"), re.DOTALL)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # an activated environment
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-euc", script.replace("'mr:", f"'{prefix}:")],
        cwd=root, env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, **environment},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"{title}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_redis_that_lost_everything_is_restored_and_the_worker_reads_on_from_the_copy(
    kafka_bootstrap: str, topic_prefix: str, redis_prefix: str, root: Path, tmp_path: Path
) -> None:
    url = real.start_redis(root).redis.url
    deployment = Deployment(kafka_bootstrap, url, topic_prefix, redis_prefix, tmp_path)
    environment = {**environ_from(deployment.settings), "REDIS": url, "BACKUP": str(tmp_path / "copy"), "COLUMNS": "200"}
    try:
        worker = deployment.start()
        deployment.produce(200)
        until(lambda: deployment.commits() > 0, "the worker is at work")
        run("back up", root, environment)
        run("prove the copy", root, environment, redis_prefix)
        assert not (tmp_path / "copy.try").exists()
        deployment.produce(100)
        until(lambda: deployment.answered() == 300, "all are answered")
        lost = deployment.fronts()
        worker.kill()
        with redis.Redis.from_url(url) as client:
            assert client.config_get("auto-aof-rewrite-percentage") == {"auto-aof-rewrite-percentage": "100"}
            client.flushall()

        waiting = re.search(r"(\d+) events wait", run("restore", root, environment, redis_prefix))
        assert waiting
        copied = deployment.fronts()
        assert int(waiting[1]) == sum(lost.values()) - sum(copied.values()) >= 100
        deployment.decided_again = True
        deployment.start()
        deployment.produce(40)
        deployment.settle()
    finally:
        deployment.stop_all()


def test_the_redis_that_wrote_the_data_runs_and_they_move_to_another_version_on_purpose_only(root: Path) -> None:
    older, newer = bundled_redis(), system_redis()
    assert older
    assert newer
    record = root / ".services" / "redis.json"

    def forget_program() -> None:
        """Leave what an earlier release wrote."""
        record.write_text(json.dumps({key: value for key, value in json.loads(record.read_text()).items() if key != "program"}))

    def running() -> tuple[str, bytes | None]:
        with redis.Redis.from_url(real.restart_redis(root).redis.url) as client:
            return real.status(root)[1].program.path, client.get("key")

    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"port": 0, "pid": 0, "program": {"path": older, "version": ""}}))
    url = real.start_redis(root).redis.url
    with redis.Redis.from_url(url) as client:
        client.set("key", "value")
        client.bgrewriteaof()  # a file of commands alone names no version
    data = root / ".services" / "redis" / "data"
    until(lambda: data_version(data) != "", "the file is rewritten")
    assert running() == (older, b"value")
    forget_program()
    assert running() == (older, b"value")

    run("another version", root, {"REDIS": url, "NEW": newer})
    assert data_version(data) == real.status(root)[1].program.version
    assert running() == (newer, b"value")
    # The older one would not see these files and start empty.
    record.write_text(json.dumps({**json.loads(record.read_text()), "program": {"path": older, "version": ""}}))
    assert running() == (newer, b"value")
