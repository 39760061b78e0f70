"""A Redis of the test's own loses its scripts, reloads its data and is killed under a running worker, which goes on."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from devservices.ports import free_port
from stream_app.admin.doctor import Check
from stream_app.admin.doctor_services import check_positions, check_redis
from tests.chaos.deployment import PARTITIONS, Deployment
from tests.contract.own_server import OwnServer
from tests.integration.transport_harness import until

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.case("scripts flushed")]

# A server that loads answers LOADING once in 1,024 keys: three times in as many seconds.
FILLERS, LOAD_DELAY = 3_000, "key-load-delay 1000"


@pytest.fixture
def server(real_services: object, tmp_path: Path) -> Iterator[OwnServer]:
    with OwnServer(tmp_path / "redis", LOAD_DELAY) as running:
        yield running


@pytest.fixture
def deployment(
    server: OwnServer, kafka_bootstrap: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> Iterator[Deployment]:
    deployment = Deployment(kafka_bootstrap, server.url, topic_prefix, redis_prefix, tmp_path)
    yield deployment
    deployment.stop_all()


def is_loading(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        try:
            client.ping()
        except redis.BusyLoadingError:
            return True
    return False


@pytest.mark.case("Redis full, then away")
def test_a_worker_says_at_once_that_redis_is_full_or_away_and_is_not_ready(deployment: Deployment, server: OwnServer) -> None:
    deployment.settings = replace(deployment.settings, worker=replace(deployment.settings.worker, web_port=free_port("ready")))
    worker, kafka = deployment.start(), deployment.settings.kafka
    pages = f"http://127.0.0.1:{deployment.settings.worker.web_port}"

    def page(name: str) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"{pages}/{name}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.load(refusal)
        except OSError:
            return 0, {}

    def findings() -> dict[str, Check]:
        checks = [
            *check_redis(server.url, deployment.redis_prefix, PARTITIONS, 2_000),
            *check_positions(kafka.bootstrap, kafka.topic_prefix, server.url, deployment.redis_prefix, 2_000),
        ]
        return {check.name: check for check in checks}

    until(lambda: page("readyz")[0] == 200, "the worker is ready")
    deployment.produce(60)
    until(lambda: deployment.answered() == 60, "all are answered")
    assert findings()["redis writes"].status == "OK"
    with redis.Redis.from_url(server.url) as admin:
        admin.config_set("maxmemory", 1)
        deployment.produce(60)
        log = deployment.log(0)
        until(lambda: "used memory > 'maxmemory'" in log.read_text(), "the log says so", 10)
        found = findings()
        assert (found["redis writes"].status, found["progress"].status) == ("FAIL", "WARN"), found
        assert "60 events wait" in found["positions"].finding
        assert found["redis memory"].status == "WARN"
        admin.config_set("maxmemory", 0)
    until(lambda: deployment.answered() == 120, "it goes on by itself")
    assert "Redis works again, after" in deployment.log(0).read_text()
    server.kill()
    until(lambda: page("readyz") == (503, {"ready": False, "reason": "Redis does not answer"}), "not ready", 20)
    assert page("healthz")[0] == 200
    server.start()
    until(lambda: page("readyz")[0] == 200, "ready again", 30)
    deployment.settle()
    assert worker.returncode == 0


def test_a_worker_goes_on_over_flushed_scripts_and_a_server_that_loads(deployment: Deployment, server: OwnServer) -> None:
    worker = deployment.start()
    with redis.Redis.from_url(server.url, retry=None) as admin:
        for _ in range(5):
            admin.script_flush()
            deployment.produce(60)
            until(lambda: bool(admin.script_flush()) and deployment.answered() == len(deployment.events), "all are answered")
        admin.mset({f"filler:{number}": number for number in range(FILLERS)})
        for number in range(FILLERS):
            admin.set(f"filler:{number}", number)
        server.kill()
        deployment.produce(60)
        start = threading.Thread(target=server.start)
        start.start()
        until(lambda: is_loading(admin), "it loads its data")
        deployment.produce(60)
        start.join()
    deployment.settle()
    assert (len(deployment.workers), worker.returncode) == (1, 0)
    log = deployment.log(0).read_text()
    assert not [line for line in log.splitlines() if " ERROR " in line or "Traceback" in line], log
