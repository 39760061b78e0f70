"""Rolls a prefix of a shared Redis back to an earlier point in time, like a failover or a lost last second of its log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

__all__ = ["Snapshot", "restore", "snapshot"]

Snapshot = Mapping[bytes, tuple[bytes, int]]  # key -> what DUMP gives, and the time it has left in ms (-1 for ever)


def snapshot(url: str, prefix: str) -> Snapshot:
    """All of the prefix's keys, as Redis would dump them."""
    taken: dict[bytes, Any] = {}
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(f"{prefix}*", count=1_000):
            taken[key] = (client.dump(key), client.pttl(key))
    return taken


def restore(url: str, prefix: str, taken: Snapshot) -> None:
    """Put the prefix back to what it was."""
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(f"{prefix}*", count=1_000):
            client.delete(key)
        for key, (dump, ttl_ms) in taken.items():
            client.restore(key, max(ttl_ms, 0), dump)
