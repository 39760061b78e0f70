from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry

from stream_app.agents.store_watch import StoreWatch
from stream_app.errors import ContractError, StoreUnavailableError
from stream_app.metrics import Metrics
from stream_app.store.memory import MemoryStore
from stream_app.store.port import StoreHealth


class TellingStore(MemoryStore):
    """Tells one finding after the other, and the last one again and again."""

    def __init__(self, findings: Iterable[StoreHealth | Exception]) -> None:
        super().__init__(1, frozenset())
        self._findings = list(findings)
        self.asked = 0

    async def health(self) -> StoreHealth:
        self.asked += 1
        finding = self._findings.pop(0) if len(self._findings) > 1 else self._findings[0]
        if isinstance(finding, Exception):
            raise finding
        return finding


def watched(*findings: StoreHealth | Exception) -> tuple[TellingStore, Metrics, StoreWatch]:
    store, metrics = TellingStore(findings), Metrics(CollectorRegistry())
    return store, metrics, StoreWatch(store, metrics, dict, every_s=0.001)


def looked(watch: StoreWatch, times: int) -> None:
    async def scenario() -> None:
        for _ in range(times):
            await watch.check()

    asyncio.run(scenario())


def critical(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]


def test_the_gauges_say_what_the_server_says() -> None:
    _, metrics, watch = watched(StoreHealth(evicted=3, used_bytes=70, limit_bytes=100, replicas=2))
    looked(watch, 1)
    gauges = (metrics.store_memory, metrics.store_memory_limit, metrics.store_evicted, metrics.store_replicas)
    assert [gauge._value.get() for gauge in gauges] == [70, 100, 3, 2]


def test_what_was_evicted_before_the_worker_came_is_told_but_is_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    _, metrics, watch = watched(StoreHealth(evicted=3))
    looked(watch, 3)
    assert metrics.evictions_seen._value.get() == 0
    assert not critical(caplog)


def test_every_eviction_while_it_runs_is_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    full = {"used_bytes": 100, "limit_bytes": 100, "policy": "allkeys-lru"}
    findings = [StoreHealth(evicted=count, **full) for count in (3, 3, 5, 5, 9)]  # type: ignore[arg-type]  # two types in one dict
    _, metrics, watch = watched(*findings)
    looked(watch, 5)
    assert metrics.evictions_seen._value.get() == 6
    first, second = critical(caplog)
    assert "2 keys" in first
    assert "4 keys" in second
    assert "100 of 100 bytes" in second
    assert "allkeys-lru" in second


def test_a_server_that_was_started_again_counts_from_nothing(caplog: pytest.LogCaptureFixture) -> None:
    _, metrics, watch = watched(StoreHealth(evicted=8), StoreHealth(evicted=0), StoreHealth(evicted=2))
    looked(watch, 3)
    assert metrics.evictions_seen._value.get() == 2
    assert len(critical(caplog)) == 1


def test_over_a_failover_only_the_growth_of_each_server_counts(caplog: pytest.LogCaptureFixture) -> None:
    def shards(**evicted: int) -> StoreHealth:
        return StoreHealth(evicted=sum(evicted.values()), evicted_by_server=evicted)

    _, metrics, watch = watched(
        shards(a=8, b=3),
        shards(c=0, b=3),  # a replica has taken over from a: the sum falls, and nothing is new
        shards(c=2, b=4),
        shards(a=8, b=4),  # a is back as it was
        shards(d=5, b=4),  # d has lost keys in an earlier life as a primary
    )
    looked(watch, 2)
    assert metrics.evictions_seen._value.get() == 0
    looked(watch, 3)
    assert metrics.evictions_seen._value.get() == 3
    assert len(critical(caplog)) == 1
    messages = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [message.split()[4] for message in messages] == ["11", "5"]


def test_it_goes_on_when_the_store_is_away_or_refuses_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    away, refused = StoreUnavailableError("away"), ContractError("no rights. Operator action: grant INFO")
    seven, eight = StoreHealth(used_bytes=7), StoreHealth(used_bytes=8)
    store, metrics, watch = watched(away, away, seven, refused, refused, refused, eight, refused, refused, seven)

    async def scenario() -> None:
        watch.start()
        watch.start()
        while store.asked < 10:  # noqa: ASYNC110  # the store has no event
            await asyncio.sleep(0.001)
        await watch.stop()

    asyncio.run(scenario())
    assert metrics.store_memory._value.get() == 7
    assert len([record for record in caplog.records if "refuses to tell" in record.getMessage()]) == 2, "once each time"


def test_it_can_be_started_again() -> None:
    store, _, watch = watched(StoreHealth())

    async def scenario() -> None:
        for _ in range(2):
            asked = store.asked
            watch.start()
            while store.asked == asked:  # noqa: ASYNC110  # the store has no event
                await asyncio.sleep(0.001)
            await watch.stop()
        await watch.stop()

    asyncio.run(scenario())
    assert store.asked >= 2
