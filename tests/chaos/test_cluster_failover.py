"""Whole workers on real Kafka and a real Redis Cluster that loses a primary: nothing is lost, and nothing counts twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from devservices import cluster
from stream_app.events import SOURCE_TOPICS
from stream_app.store.redis_cluster import RedisClusterStore
from tests.chaos import deployment as single
from tests.chaos.deployment import PARTITIONS, Deployment
from tests.integration.cluster_faults import after_failover, cut_off, lose, repair
from tests.integration.transport_harness import until

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]


@dataclass
class OnCluster(Deployment):
    """The same deployment with its state in a cluster, whose first seed may be the node that dies."""

    wait_replicas: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        of_redis = replace(self.settings.redis, cluster=True, wait_replicas=self.wait_replicas)
        self.settings = replace(self.settings, redis=of_redis)

    def _field(self, group: int, field: str) -> Any:
        first = self.redis_url.removeprefix("redis://").partition(",")[0]
        with redis.RedisCluster.from_url(f"redis://{first}") as client:
            key = f"{self.redis_prefix}:{{g{group}}}"
            return client.get(f"{key}:commit") if field == "commit" else client.hget(f"{key}:meta", field)

    def fronts(self) -> Mapping[tuple[str, int], int]:
        places = [(topic, group) for topic in SOURCE_TOPICS for group in range(PARTITIONS)]
        fronts = {(topic, group): self._field(group, f"front:{topic}") for topic, group in places}
        return {place: int(front) for place, front in fronts.items() if front is not None}

    def commits(self) -> int:
        return sum(int(self._field(group, "commit") or 0) for group in range(PARTITIONS))

    def owners(self) -> set[str]:
        """The workers that have claimed a group last."""
        epochs = [self._field(group, "epoch") for group in range(PARTITIONS)]
        return {epoch.decode().split(":")[1] for epoch in epochs if epoch}

    @property
    def slot(self) -> int:
        """The slot of group 0."""
        return key_slot(f"{self.redis_prefix}:{{g0}}:".encode())


@pytest.fixture
def deployment(
    request: pytest.FixtureRequest,
    kafka_bootstrap: str,
    own_cluster: Path,
    topic_prefix: str,
    redis_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[OnCluster]:
    repair(own_cluster)
    monkeypatch.setattr(single, "RedisStore", RedisClusterStore)  # the verdict reads the state through it
    url = cluster.status(own_cluster).url
    made = OnCluster(kafka_bootstrap, url, topic_prefix, redis_prefix, tmp_path, wait_replicas=request.param)
    yield made
    made.stop_all()


@pytest.mark.case("failover of a Redis Cluster")
@pytest.mark.parametrize("deployment", [1], ids=["wait"], indirect=True)
def test_workers_go_on_over_a_failover_with_all_that_they_have_published(deployment: OnCluster, own_cluster: Path) -> None:
    deployment.produce(100)
    for _ in range(2):
        deployment.start()
    until(lambda: len(deployment.owners()) == 2, "both workers own groups", 120)  # they may have to compile first
    deployment.produce(300)
    until(lambda: deployment.answered() >= 140, "work is under way")
    old = cluster.primary_of(own_cluster, deployment.slot)
    cluster.kill(own_cluster, old.number)
    deployment.produce(200)
    after_failover(own_cluster, deployment.slot, old)
    deployment.produce(100)
    deployment.settle()
    deployment.check_journal()
    assert [worker.returncode for worker in deployment.workers] == [0, 0], "no worker had to start anew"


@pytest.mark.case("failover of a Redis Cluster")
@pytest.mark.parametrize("deployment", [0], ids=["no wait"], indirect=True)
def test_what_redis_lost_is_decided_again_and_counts_once(deployment: OnCluster, own_cluster: Path) -> None:
    deployment.produce(100)
    worker = deployment.start()
    until(lambda: deployment.answered() == 100, "all are answered")
    old = cluster.primary_of(own_cluster, deployment.slot)
    behind = cut_off(own_cluster, old)
    deployment.produce(100)
    until(lambda: deployment.answered() == 200, "all are answered, and a primary that dies next has some of them alone")
    before = deployment.commits()
    lose(own_cluster, deployment.slot, old, behind)
    repair(own_cluster)
    assert deployment.commits() < before
    deployment.decided_again = True
    deployment.produce(50)
    assert worker.wait(60) == 1, "it saw that the store stands behind it"
    assert "StoreRolledBackError" in deployment.log(0).read_text()
    deployment.start()
    deployment.settle()
