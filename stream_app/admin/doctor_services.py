"""Checks of Kafka and Redis: they answer, their configuration keeps the guarantee, and they fit each other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from stream_app.admin.broker import connect, read_topics
from stream_app.admin.doctor import Check
from stream_app.admin.positions import fronts, groups_with_state, redis_client, refuse_state_of_other_count, topic_ids
from stream_app.admin.topic_ids import made_anew, read_topic_ids
from stream_app.admin.topic_reader import TopicReader
from stream_app.admin.topics import differences, plan_topics
from stream_app.codec.key_partition import PartitionerSample
from stream_app.events import SOURCE_TOPICS

_NEARLY_FULL: Final = 0.9
_LOOK_AGAIN_S: Final = 3.0
_NEWEST: Final = 2_000  # records of each partition that are read to compare producers
_OLDEST_REDIS: Final = (6, 2)  # the oldest version that the store's scripts are tested with


def check_kafka(bootstrap: str, client_api_version: str, *, partitions: int, replication: int, prefix: str) -> Iterator[Check]:
    """Check that the broker answers and that the topics are as configured.

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    plans = plan_topics(partitions, replication, prefix)
    embedded = bool(client_api_version)
    with connect(bootstrap, client_api_version) as admin:
        states = read_topics(admin, [plan.name for plan in plans], with_configs=not embedded)
    yield Check("kafka", "OK", f"answers at {bootstrap}" + (", embedded" if embedded else ""))
    lines = differences(plans, states)
    for line in lines:
        finding, _, action = line.partition("; ")
        # Settings that differ may be an operator's choice; a missing topic or another count stops the worker.
        wrong = "does not exist" in finding or "partitions" in finding
        yield Check("topics", "FAIL" if wrong else "WARN", finding, action)
    if not lines:
        yield Check("topics", "OK", f"all {len(plans)} exist, {partitions} partitions each")


def check_redis(url: str, prefix: str, partitions: int, timeout_ms: int, *, cluster: bool = False) -> Iterator[Check]:
    """Check that the server, or each primary of the cluster, keeps its data, and holds state of these partitions only.

    Raises:
        StoreUnavailableError: The server does not answer.
        ContractError: It holds state of other groups.
    """
    with redis_client(url, timeout_ms, cluster=cluster) as client:
        infos = [client.info(target_nodes=node) for node in client.get_primaries()] if cluster else [client.info()]
        homes = [f":{{g{group}}}" for group in range(partitions)] if cluster else [""]
        yield from _refused_writes(client, [f"{prefix}{home}:waited" for home in homes])
        yield from dict.fromkeys(check for info in infos for check in redis_findings(info))
        refuse_state_of_other_count(client, prefix, partitions)
        count = len(groups_with_state(client, prefix))
    yield Check("state", "OK", f"{count} of {partitions} partition groups have state under redis.prefix {prefix}")


def _refused_writes(client: Any, keys: Sequence[str]) -> Iterator[Check]:  # noqa: ANN401 (redis-py's client)
    """Try to write keys that nobody reads and that expire at once, one on each shard: a full server or disk refuses it."""
    from redis.exceptions import ResponseError

    try:
        for key in keys:
            client.set(key, "", px=1_000)
    except ResponseError as err:
        yield Check(
            "redis writes",
            "FAIL",
            f"refused: {err}",
            "OOM: raise maxmemory or delete an old prefix; MISCONF: see its disk; READONLY: redis.url names no primary",
        )
    else:
        yield Check("redis writes", "OK", "accepted")


def position_findings(
    applied: Mapping[tuple[str, int], int], bounds: Mapping[tuple[str, int], tuple[int, int]]
) -> Iterator[Check]:
    """Check that the store's positions lie within Kafka's logs, and count the events that wait.

    Args:
        applied: By (topic, partition), the offset below which the state holds everything.
        bounds: By (topic, partition), first offset and end of the log, of the source topics.
    """
    waiting = 0
    outside = []
    for (topic, partition), (first, end) in sorted(bounds.items()):
        front = applied.get((topic, partition), first)
        waiting += max(0, end - max(front, first))
        if not first <= front <= end:
            outside.append(f"{topic}-{partition}: the state holds all below {front}, the log is {first} to {end}")
    if outside:
        more = f", and {len(outside) - 1} more" if len(outside) > 1 else ""
        yield Check(
            "positions",
            "FAIL",
            outside[0] + more,
            "if the topics were made anew, choose a new redis.prefix; if events expired unread, lengthen retention",
        )
    else:
        yield Check("positions", "OK", f"within the logs; {waiting} events wait to be scored")


def check_positions(
    bootstrap: str,
    topic_prefix: str,
    url: str,
    redis_prefix: str,
    timeout_ms: int,
    *,
    cluster: bool = False,
    embedded: bool = False,
) -> Iterator[Check]:
    """Check that the store's positions fit Kafka's logs, and are of these topics, not of earlier ones with their names.

    Raises:
        RetryableError: The store or the broker does not answer.
    """
    with TopicReader(bootstrap, topic_prefix) as reader:
        bounds = reader.ranges(SOURCE_TOPICS)
    found = read_topic_ids(bootstrap, [topic_prefix + name for name in SOURCE_TOPICS]) if not embedded else {}
    with redis_client(url, timeout_ms, cluster=cluster) as client:
        groups = groups_with_state(client, redis_prefix)
        applied = fronts(client, redis_prefix, groups)
        stored = topic_ids(client, redis_prefix)
        waits = any(end > applied.get(place, first) for place, (first, end) in bounds.items())
        if waits:
            time.sleep(_LOOK_AGAIN_S)
            moved, applied = applied, fronts(client, redis_prefix, groups_with_state(client, redis_prefix))
            if moved == applied:
                yield Check(
                    "progress",
                    "WARN",
                    f"events wait, and none was applied in {_LOOK_AGAIN_S:.0f} s: no worker runs, or all stand",
                    "start a worker; read the log of one that runs",
                )
    for line in made_anew({name.removeprefix(topic_prefix): topic_id for name, topic_id in found.items()}, stored):
        yield Check("positions", "FAIL", line, "see 'A topic was made anew' in docs/runbook.md")
    yield from position_findings(applied, bounds)


def check_partitioners(bootstrap: str, topic_prefix: str, partitions: int) -> Iterator[Check]:
    """Check by the newest records of the source topics that all producers choose partitions in one way.

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    sample = PartitionerSample(partitions)
    with TopicReader(bootstrap, topic_prefix) as reader:
        bounds = reader.ranges(SOURCE_TOPICS)
        newest = {place: (max(low, high - _NEWEST), high) for place, (low, high) in bounds.items()}
        for topic, record in reader.read(newest):
            sample.add(topic, record.partition() or 0, record.offset() or 0, record.key())
    fault = sample.fault()
    if fault is not None:
        yield Check("partitioners", "WARN", fault, "see 'Producers with different partitioners' in docs/runbook.md")
    else:
        yield Check("partitioners", "OK", f"one way to choose partitions in {sample.counts.total()} sampled records")


def redis_findings(info: Mapping[str, Any]) -> Iterator[Check]:
    """Check version, eviction and persistence in the server's INFO."""
    text = str(info.get("redis_version", "0"))
    version = tuple(int(part) for part in text.split(".")[:2])
    if version < _OLDEST_REDIS:
        yield Check("redis", "FAIL", f"answers, version {text}", "upgrade to 6.2 or newer")
    else:
        yield Check("redis", "OK", f"answers, version {text}")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        yield Check(
            "redis memory",
            "WARN",
            f"maxmemory-policy is {policy}: when memory is full, users lose their history silently",
            "set maxmemory-policy noeviction; a worker then waits and logs it",
        )
    elif 0 < info.get("maxmemory", 0) * _NEARLY_FULL < info.get("used_memory", 0):
        yield Check(
            "redis memory",
            "WARN",
            f"{info['used_memory']} of {info['maxmemory']} bytes are used; a full Redis refuses writes, and all workers wait",
            "raise maxmemory, or delete what an old prefix holds",
        )
    else:
        yield Check("redis memory", "OK", "never evicts")
    saves = {name: info[name] for name in ("rdb_last_bgsave_status", "aof_last_write_status") if info.get(name, "ok") != "ok"}
    if saves:
        yield Check("redis disk", "FAIL", f"the last save failed: {saves}", "see Redis's log; give its disk room")
    if info.get("aof_enabled"):
        yield Check("redis persistence", "OK", "append-only file")
    else:
        yield Check(
            "redis persistence",
            "WARN",
            "no append-only file: a restart returns to the last snapshot, and the worker reads Kafka again from there",
            "set appendonly yes; keep Kafka's retention longer than the oldest snapshot",
        )
