"""The feature engine by itself: events a second with state in memory and in Redis, and bytes of a user.

Each log is read in its own order and cut into batches; columns are made beforehand. Then each batch is read and folded with the
full catalogue (`benchmarks.features.feature_paths`):

- `memory_events_per_s`: updates and reads on one core, state as the engine's rows in memory; all events of all logs. No store is
  in it: it is what the arithmetic costs;
- `memory_store_events_per_s`: the same through MemoryStore: packed blobs are read, merged with replicas by group, written back;
- `redis_events_per_s`: through the Redis store, fence and all, with a real Redis on the same machine; the first part of each log;
- `idiomatic_events_per_s`: Redis commands by the book for a tenth of the features (`benchmarks.features.idiomatic_features`).

The logs are the real ones, or a simulated shop where they are absent. The shop is measured beside real logs too, since it alone
has every kind of entity.

The last line is JSON. Keys: the figures above; `memory_events_per_cpu_s`, the first one by CPU time, which others' work hardly
changes; `memory_us`, `memory_store_us`, `redis_us`: microseconds an event by piece (`columns` is in none of the figures);
`by_log`; `bytes_p50`, `bytes_p99` of a user's blob after the whole of the logs, `person_bytes_p50`, `person_bytes_p99` with its
sessions and categories; `bytes` by entity kind; `busy`: CPU seconds by seconds of the memory runs, below 0.95 others used the
core too; `events`, `catalogue`, `features`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import click
import redis

from benchmarks.features.feature_logs import FeatureLog, batches, find_logs, group_of, shop_log
from benchmarks.features.feature_paths import FeaturePath, Laps, ResidentPath, in_lanes
from benchmarks.features.idiomatic_features import FEATURES, keep_and_read
from benchmarks.features.state_bytes import sizes, user_bytes
from devservices import real
from stream_app.config import WorkerSettings
from stream_app.events import Event
from stream_app.features.catalog import CATALOGUE
from stream_app.features.columns.event_columns import EventColumns
from stream_app.features.engine import FeatureEngine
from stream_app.privacy import Pseudonymizer
from stream_app.reporting.progress import Reporter
from stream_app.reporting.provenance import origin
from stream_app.store.memory import MemoryStore
from stream_app.store.redis_store import RedisStore
from verification.harness.command import data_option, reporting
from verification.harness.processes import ROOT
from verification.harness.results import print_figures, save_option

_PREFIX = "bench-features"  # of keys in Redis; each run adds a name of its own
_GROUPS = 8
_LATENESS_MS = 86_400_000
_MEMORY_BATCH, _REDIS_BATCH = 256, WorkerSettings().batch_events
_LANES = 2  # batches in flight, each of other groups, as with two workers
_CHUNK = 64 * _MEMORY_BATCH  # events made ready at once
_SCAN = 2_000
_SHARED = frozenset(kind.name for kind in CATALOGUE.kinds if kind.shared)


@dataclass(frozen=True, slots=True)
class FeatureBenchPlan:
    """How much to measure: rows of the real logs, events of the shop, and the first events of each log that others get."""

    taobao: int
    cards: int
    shop: int
    redis: int
    idiomatic: int


# Said in the JSON too, so that no figure is taken for another.
_WHAT = {
    "memory_events_per_s": "number the entities, read all features and update the state; rows of state stay in memory, one core",
    "memory_store_events_per_s": "the same through MemoryStore: packed blobs are read, merged with replicas, written back",
    "redis_events_per_s": "the same through RedisStore, fence and all, Redis on this machine",
    "idiomatic_events_per_s": "a tenth of the features by ZADD, ZCOUNT, HINCRBY, HMGET in pipelines of a batch",
}
FULL = FeatureBenchPlan(taobao=110_300, cards=1_466_282, shop=60_000, redis=100_000, idiomatic=3_000)
QUICK = FeatureBenchPlan(taobao=4_000, cards=4_000, shop=2_000, redis=2_000, idiomatic=200)


@dataclass(slots=True)
class FeatureBench:
    """One run of all measurements; keys of Redis begin with `prefix`."""

    plan: FeatureBenchPlan
    reporter: Reporter
    url: str
    prefix: str
    engine: FeatureEngine = field(default_factory=lambda: FeatureEngine(CATALOGUE, allowed_lateness_ms=_LATENESS_MS))
    identity: Pseudonymizer = field(default_factory=lambda: Pseudonymizer(b"a key of the benchmarks alone"))

    def run(self, data: Path) -> dict[str, Any]:
        """Measure everything and return the figures."""
        self.reporter.say("compiling, or loading what was compiled before")
        self.engine.warm()
        logs = find_logs(data, self.plan.taobao, self.plan.cards, self.plan.shop)
        store = MemoryStore(_GROUPS, _SHARED)
        memory = {log.name: self._memory(log, store) for log in logs}
        by_kind, of_users = sizes(store), user_bytes(store)
        shop = [] if logs[0].name == "shop" else [shop_log(self.plan.shop)]
        beside = {log.name: self._memory(log, MemoryStore(_GROUPS, _SHARED)) for log in shop}
        in_redis = {log.name: self._redis(log) for log in [*logs, *shop]}
        resident, stored = ([pair[which] for pair in memory.values()] for which in (0, 1))
        redis_runs = [in_redis[log.name] for log in logs]
        both = [*resident, *stored]
        return {
            "memory_events_per_s": _rate(resident),
            "redis_events_per_s": _rate(redis_runs),
            "idiomatic_events_per_s": self._idiomatic(logs),
            "memory_events_per_cpu_s": round(sum(run.laps.events for run in resident) / sum(run.cpu_s for run in resident), 1),
            "memory_store_events_per_s": _rate(stored),
            **of_users,
            "what": _WHAT,
            "memory_us": _us(resident),
            "memory_store_us": _us(stored),
            "redis_us": _us(redis_runs),
            "by_log": {
                name: {"memory": _rate([rows]), "memory_store": _rate([blobs]), "redis": _rate([in_redis[name]])}
                for name, (rows, blobs) in {**memory, **beside}.items()
            },
            "bytes": by_kind,
            "busy": round(sum(run.cpu_s for run in both) / sum(run.seconds for run in both), 3),
            "events": {name: rows.laps.events for name, (rows, _) in {**memory, **beside}.items()},
            "data": logs[0].kind,
            "groups": _GROUPS,
            "batch": {"memory": _MEMORY_BATCH, "redis": _REDIS_BATCH, "redis_in_flight": _LANES},
            "idiomatic_features": list(FEATURES),
            "features": len(CATALOGUE.features),
            "catalogue": self.engine.catalogue_hash,
            **origin(),
        }

    def _memory(self, log: FeatureLog, store: MemoryStore) -> tuple[_Run, _Run]:
        """Take a whole log through rows that stay in memory, and through a memory store."""
        rows, blobs = _Run(), _Run()
        resident, path = ResidentPath(self.engine, rows.laps), FeaturePath(self.engine, store, blobs.laps)
        asyncio.run(path.claim(range(_GROUPS)))
        for chunk in batches(log.events(), _CHUNK):
            columns = self._columns(chunk, _MEMORY_BATCH, blobs.laps)
            resident.reserve(columns)
            with rows.timed():
                for batch in columns:
                    resident.take(batch)
            with blobs.timed():
                asyncio.run(in_lanes([path], [columns]))
            self.reporter.at(f"{log.name}, memory", rows.laps.events, log.total)
        self.reporter.say(f"{log.name}, memory: {_rate([rows]):,.0f} events a second over {rows.laps.events:,}")
        self.reporter.say(f"{log.name}, memory store: {_rate([blobs]):,.0f} events a second")
        return rows, blobs

    def _redis(self, log: FeatureLog) -> _Run:
        """Take the first part of a log through Redis."""
        run = _Run()
        events = list(islice(log.events(), self.plan.redis))
        lanes = [[e for e in events if group_of(e.user, _GROUPS) % _LANES == lane] for lane in range(_LANES)]
        columns = [self._columns(of_lane, _REDIS_BATCH, run.laps) for of_lane in lanes]
        asyncio.run(self._through_redis(f"{self.prefix}:{log.name}", columns, run))
        self.reporter.say(f"{log.name}, Redis: {_rate([run]):,.0f} events a second over {run.laps.events:,}")
        return run

    async def _through_redis(self, prefix: str, columns: Sequence[Sequence[EventColumns]], run: _Run) -> None:
        store = RedisStore(self.url, prefix=prefix, groups=_GROUPS, shared_kinds=_SHARED)
        try:
            paths = [FeaturePath(self.engine, store) for _ in columns]
            for lane, path in enumerate(paths):
                await path.claim([group for group in range(_GROUPS) if group % len(paths) == lane])
            with run.timed():
                await in_lanes(paths, columns)
        finally:
            await store.close()
        for path in paths:
            run.laps.add(path.laps)

    def _idiomatic(self, logs: Sequence[FeatureLog]) -> float:
        count, seconds = 0, 0.0
        with redis.Redis.from_url(self.url) as client:
            for log in logs:
                for batch in batches(islice(log.events(), self.plan.idiomatic), _MEMORY_BATCH):
                    began = time.perf_counter()
                    keep_and_read(client, f"{self.prefix}:idiomatic", batch)
                    seconds += time.perf_counter() - began
                    count += len(batch)
        self.reporter.say(f"Redis commands by the book: {count / seconds:,.0f} events a second over {count:,}")
        return round(count / seconds, 1)

    def _columns(self, events: Sequence[Event], size: int, laps: Laps) -> list[EventColumns]:
        found = []
        for batch in batches(iter(events), size):
            of = [group_of(event.user, _GROUPS) for event in batch]
            laps.start()
            found.append(self.engine.columns(batch, of, self.identity))
            laps.lap("columns")
        return found


@dataclass(slots=True)
class _Run:
    """One log on one path: seconds of all pieces but `columns`, which is in `laps` only."""

    laps: Laps = field(default_factory=Laps)
    seconds: float = 0.0
    cpu_s: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time of the block."""
        began, began_cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - began
        self.cpu_s += time.process_time() - began_cpu


def _rate(runs: Sequence[_Run]) -> float:
    return round(sum(run.laps.events for run in runs) / sum(run.seconds for run in runs), 1)


def _us(runs: Sequence[_Run]) -> dict[str, float]:
    laps = Laps()
    for run in runs:
        laps.add(run.laps)
    return laps.us()


def _forget(url: str, prefix: str) -> None:
    with redis.Redis.from_url(url) as client:
        for batch in batches(client.scan_iter(match=f"{prefix}:*", count=_SCAN), _SCAN):
            client.unlink(*batch)


_EXAMPLES = """\b
Examples:
  python -m benchmarks.bench_features
  python -m benchmarks.bench_features --quick
  python -m benchmarks.bench_features --cards 200000 --redis-url redis://127.0.0.1:6379/0
"""


@click.command(epilog=_EXAMPLES)
@data_option("Absent: a simulated shop.")
@click.option("--cards", type=click.IntRange(1), help=f"Card transactions, the earliest ones; default {FULL.cards:,}.")
@click.option("--quick", is_flag=True, help="Some thousand events: seconds in place of two minutes, and coarser figures.")
@click.option("--redis-url", help="Redis to measure with; default: the one of this checkout, which is started if need be.")
@save_option
def main(data: Path, cards: int | None, quick: bool, redis_url: str | None, save: bool) -> None:
    """Measure the feature engine with state in memory and in Redis; the last line is JSON."""
    base = QUICK if quick else FULL
    plan = FeatureBenchPlan(base.taobao, cards or base.cards, base.shop, base.redis, base.idiomatic)
    with reporting(redis.RedisError) as reporter:
        url = redis_url or real.up(ROOT, reporter.say).redis.url
        prefix = f"{_PREFIX}-{uuid.uuid4().hex[:8]}"
        try:
            figures = FeatureBench(plan, reporter, url, prefix).run(data)
        finally:
            _forget(url, prefix)
    print_figures("bench_features", figures, save=save)


if __name__ == "__main__":
    main()
