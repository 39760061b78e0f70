"""A store over a Redis Cluster of the test's own (fixture `own_cluster`), and the faults that its nodes can have."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis

from devservices import cluster
from devservices.cluster import ClusterNode
from stream_app.store.redis_cluster import RedisClusterStore
from stream_app.store.redis_store import RedisOptions

__all__ = ["admin", "after_failover", "cut_off", "lose", "opened", "primary", "repair", "replica", "slot_of_group"]


@asynccontextmanager
async def opened(root: Path, *, groups: int, shared: frozenset[str], **options: int) -> AsyncIterator[RedisClusterStore]:
    """A store under a prefix of its own."""
    url, prefix = cluster.status(root).url, f"t{secrets.token_hex(5)}"
    store = RedisClusterStore(url, prefix=prefix, groups=groups, shared_kinds=shared, options=RedisOptions(**options))
    try:
        yield store
    finally:
        await store.close()


def slot_of_group(store: RedisClusterStore, group: int) -> int:
    return store._slots[group]


def primary(root: Path, store: RedisClusterStore, group: int) -> ClusterNode:
    """The node that has the group."""
    return cluster.primary_of(root, slot_of_group(store, group))


def replica(root: Path, of: ClusterNode) -> ClusterNode:
    """The node that copies the primary `of`."""
    return next(node for node in cluster.status(root).nodes if node.primary == of.port)


def admin(node: ClusterNode) -> Any:
    return redis.Redis(port=node.port)


def repair(root: Path) -> None:
    """Bring back what was killed."""
    cluster.up(root, lambda _line: None)


def after_failover(root: Path, slot: int, old: ClusterNode) -> None:
    """Wait until another node has taken over from `old`, which was killed, and bring it back."""
    cluster.wait_for_failover(root, slot, old)
    repair(root)


def cut_off(root: Path, old: ClusterNode) -> ClusterNode:
    """Keep what the primary `old` writes from now on away from its replica, which is returned: it hears nothing any more."""
    behind = replica(root, old)
    os.kill(behind.pid, signal.SIGSTOP)
    with admin(old) as client:
        client.execute_command("CLIENT KILL TYPE REPLICA")
    return behind


def lose(root: Path, slot: int, old: ClusterNode, behind: ClusterNode) -> None:
    """Let the primary `old` die, and its replica, which is behind, take over."""
    cluster.kill(root, old.number)
    os.kill(behind.pid, signal.SIGCONT)
    assert cluster.wait_for_failover(root, slot, old).number == behind.number
