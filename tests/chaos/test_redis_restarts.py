"""A Redis of the test's own loses its scripts, reloads its data and is killed under a running worker, which goes on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.chaos.deployment import Deployment
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
