"""The stored positions of partition groups, for operators: which groups have state under a prefix, and up to which offset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from stream_app.errors import ContractError, StoreUnavailableError

_MOST_GROUPS: Final = 1_024  # the bound of kafka.partitions


@contextmanager
def redis_client(url: str, timeout_ms: int, *, cluster: bool = False) -> Iterator[Any]:
    """Yield a connected synchronous client and close it afterwards; `cluster`: the URL names nodes of a Redis Cluster.

    Raises:
        ContractError: The server refuses user, password, encryption or a command.
        ConfigError: The URL has an option that the client does not take.
        StoreUnavailableError: The server does not answer in time.
    """
    import redis

    from stream_app.reporting.validation_errors import masked
    from stream_app.store.redis_retry import refusal, wrong_option

    client: Any = None
    try:
        try:
            client = _cluster_client(url, timeout_ms / 1000) if cluster else _client(url, timeout_ms / 1000)
            client.ping()
        except (ValueError, TypeError) as err:
            raise wrong_option(err) from err
        yield client
    except (redis.RedisError, OSError) as err:
        msg = (
            f"Redis at {masked(url)} did not answer as expected ({err}); start one with `millrace services up`, or set "
            "redis.url (MILLRACE_REDIS_URL) to one that runs"
        )
        raise refusal(err) or StoreUnavailableError(msg) from err
    finally:
        if client is not None:
            client.close()


def _client(url: str, timeout_s: float) -> Any:  # noqa: ANN401 (redis-py's client)
    import redis

    return redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)


def _cluster_client(url: str, timeout_s: float) -> Any:  # noqa: ANN401 (redis-py's client)
    from urllib.parse import urlsplit

    import redis
    from redis import cluster as redis_cluster

    node: Any = redis_cluster.ClusterNode  # untyped
    head, at, hosts = urlsplit(url).netloc.rpartition("@")
    first, *others = hosts.split(",")
    seeds = [node(host.partition(":")[0], int(host.partition(":")[2] or 6379)) for host in others]
    one = urlsplit(url)._replace(netloc=f"{head}{at}{first}").geturl()
    return redis.RedisCluster.from_url(one, startup_nodes=seeds, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)


def groups_with_state(client: Any, prefix: str) -> list[int]:  # noqa: ANN401 (redis-py's client)
    """Return the partition groups that have a record under `prefix` (key `<prefix>:{g<group>}:meta`), ascending."""
    pipeline = client.pipeline(transaction=False)
    for group in range(_MOST_GROUPS):
        pipeline.exists(f"{prefix}:{{g{group}}}:meta")
    return [group for group, exists in enumerate(pipeline.execute()) if exists]


def fronts(client: Any, prefix: str, groups: Sequence[int]) -> dict[tuple[str, int], int]:  # noqa: ANN401
    """Return, by (topic without prefix, group), the offset below which the state of `groups` holds everything."""
    offsets = {}
    for group in groups:
        for name, value in client.hgetall(f"{prefix}:{{g{group}}}:meta").items():
            if name.startswith(b"front:"):
                offsets[name.removeprefix(b"front:").decode(), group] = int(value)
    return offsets


def topic_ids(client: Any, prefix: str) -> dict[str, str]:  # noqa: ANN401
    """Return Kafka's id of each source topic as it is kept beside the fronts, by topic without prefix."""
    return {topic.decode(): topic_id.decode() for topic, topic_id in client.hgetall(f"{prefix}:topics").items()}


def refuse_state_of_other_count(client: Any, prefix: str, partitions: int) -> None:  # noqa: ANN401
    """Refuse state under `prefix` that another count of partitions made.

    Raises:
        ContractError: There is state of groups without a partition.
    """
    beyond = [group for group in groups_with_state(client, prefix) if group >= partitions]
    if beyond:
        msg = (
            f"redis.prefix {prefix} holds state of partition groups up to {beyond[-1]}, but kafka.partitions is {partitions}: "
            f"the state of {len(beyond)} groups would never be read again.\n"
            f"Operator action: set kafka.partitions to the count this state was made with (at least {beyond[-1] + 1}), or choose "
            "a new redis.prefix."
        )
        raise ContractError(msg)
