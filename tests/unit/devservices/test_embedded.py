from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from kafka import KafkaAdminClient

from devservices import process
from devservices.embedded import embedded_services
from devservices.mock_broker import mock_broker
from devservices.state import ServicesState
from stream_app.errors import ServiceError

CHECKOUT = Path(__file__).resolve().parents[3]


@contextmanager
def held_by_a_process(root: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], ServicesState]]:
    code = "from stream_app.cli.serve.services import command; command()"
    argv = [sys.executable, "-c", code, "embedded", "--root", str(root), *arguments]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as holder:
        try:
            assert holder.stdout is not None
            yield holder, ServicesState.from_json(holder.stdout.readline())
        finally:
            holder.kill()


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def test_both_answer_while_inside_and_nothing_is_left_after(tmp_path: Path) -> None:
    with embedded_services({"clicks": 3, "orders": 2}, root=tmp_path) as state:
        assert state.kind == "embedded"
        admin = KafkaAdminClient(bootstrap_servers=state.kafka.bootstrap, api_version=(2, 3))
        assert {"clicks", "orders"} <= set(admin.list_topics())
        [clicks] = list(admin.describe_topics(["clicks"]))
        assert len(clicks["partitions"]) == 3
        admin.close()
        with redis.Redis.from_url(state.redis.url) as client:
            assert client.set("a", "b")
            assert client.config_get("bind")["bind"] == "127.0.0.1"
    assert not runs(state.redis.pid)
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_do_not_meet(tmp_path: Path) -> None:
    with embedded_services({}, root=tmp_path) as one, embedded_services({}, root=tmp_path) as other:
        assert one.kafka.bootstrap != other.kafka.bootstrap
        assert one.redis.url != other.redis.url


def test_a_refused_topic_names_itself() -> None:
    with pytest.raises(ServiceError, match="'clicks' with 0 partitions"), mock_broker({"clicks": 0}):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_holder_that_is_told_to_stop_leaves_no_process_and_no_file(tmp_path: Path, number: signal.Signals) -> None:
    state_file = tmp_path / "state.json"
    with held_by_a_process(tmp_path, "-t", "clicks:3", "--state", str(state_file)) as (holder, state):
        assert json.loads(state_file.read_text())["kind"] == "embedded"
        assert runs(state.redis.pid)
        holder.send_signal(number)
        assert holder.wait(20) == 0
    assert not runs(state.redis.pid)
    assert list(tmp_path.iterdir()) == []


def test_redis_ends_with_a_holder_that_is_killed_and_the_next_one_sweeps_its_folder(tmp_path: Path) -> None:
    with held_by_a_process(tmp_path) as (holder, state):
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(20)
        assert process.wait_until(lambda: not runs(state.redis.pid), 20)
    assert list((tmp_path / ".services").iterdir()) != []
    with embedded_services({}, root=tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_topic_without_a_partition_count_is_refused(tmp_path: Path) -> None:
    code = "from stream_app.cli.serve.services import command; command()"
    argv = [sys.executable, "-c", code, "embedded", "--root", str(tmp_path), "-t", "clicks"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert done.returncode == 2
    assert "clicks:8" in done.stderr
