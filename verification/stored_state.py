"""Read the state in Redis, key by key under the prefix of a run, and decode it with the engine's `describe`.

The engine only decodes the packed bytes; the oracle computes what they must hold. Keys that belong to no entity (position, commit
counter, outbox, payloads, index of replicas, layouts, ids of topics) are read too: see `Bookkeeping`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from verification.oracle.replay import Entity

Describe = Callable[[str, bytes], Mapping[str, Any]]

_SCAN, _BATCH = 5_000, 1_000
_ID = rb"([0-9a-f]{32}(?:[0-9a-f]{16})?)"  # of 16 bytes, or 24 for what belongs to one user
_STATE = re.compile(rb"\{g(\d+)\}:([a-z_]+):" + _ID)
_GROUP = re.compile(rb"\{g(\d+)\}:(meta|commit|outbox)")
_PAYLOAD = re.compile(rb"\{g(\d+)\}:answers:(\d+)")
_HOLDERS = re.compile(rb"holders:([a-z_]+):" + _ID)
_OF_ALL_GROUPS = (b"layouts", b"topics", b"waited")
_FOR_EVER = -1  # PTTL of a key without a time to live


@dataclass(slots=True)
class Bookkeeping:
    """The keys of the store that are no states.

    Attributes:
        fronts: (topic, group) -> all offsets below it are applied.
        outbox: Groups with answers that are not marked as published -> how many commits of them.
        lasting: Payloads without expiry, which only the outbox may have.
        holders: (kind, key in hex) -> groups with a replica, by the index.
        unknown: Keys of no known form.
    """

    fronts: dict[tuple[str, int], int] = field(default_factory=dict)
    outbox: dict[int, int] = field(default_factory=dict)
    lasting: list[str] = field(default_factory=list)
    holders: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


@dataclass(slots=True)
class StoredState:
    """All of a run's keys."""

    states: dict[Entity, Mapping[str, Any]] = field(default_factory=dict)
    books: Bookkeeping = field(default_factory=Bookkeeping)

    def index_faults(self, shared: frozenset[str]) -> list[str]:
        """Return replicas of `shared` kinds that the index of holders does not know: no reader would merge them."""
        return [
            f"{entity}: not in the index of holders"
            for entity in self.states
            if entity[1] in shared and entity[0] not in self.books.holders.get((entity[1], entity[2]), set())
        ]


def read_store(url: str, prefix: str, describe: Describe) -> StoredState:
    """Read everything under `prefix`.

    Args:
        url: The Redis server.
        prefix: First part of the keys, without the colon.
        describe: Kind and packed bytes to a description (FeatureEngine.describe).
    """
    stored = StoredState()
    with redis.Redis.from_url(url) as client:
        for batch in _batches(client, prefix):
            state_keys = []
            for key in batch:
                rest = key[len(prefix) + 1 :]
                match = _STATE.fullmatch(rest)
                if match:
                    state_keys.append((key, (int(match[1]), match[2].decode(), match[3].decode())))
                else:
                    _read_other(client, key, rest, stored.books)
            blobs = client.mget([key for key, _ in state_keys]) if state_keys else []
            for (_, entity), blob in zip(state_keys, blobs, strict=True):
                if blob is not None:
                    stored.states[entity] = _without_empty_rings(describe(entity[1], blob))
    return stored


def read_fronts(url: str, prefix: str, groups: int) -> dict[tuple[str, int], int]:
    """Return (topic, group) -> offset below which all is applied, for every group that has applied anything."""
    fronts: dict[tuple[str, int], int] = {}
    with redis.Redis.from_url(url) as client:
        for group in range(groups):
            fields: Mapping[Any, Any] = client.hgetall(f"{prefix}:{{g{group}}}:meta")
            fronts |= _fronts(fields, group)
    return fronts


def _fronts(fields: Mapping[Any, Any], group: int) -> dict[tuple[str, int], int]:
    return {
        (name.removeprefix(b"front:").decode(), group): int(value) for name, value in fields.items() if name.startswith(b"front:")
    }


def _without_empty_rings(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out windows without tiles: most of them, of some hundred thousand states that are in memory together."""
    rings = {part: {name: ring for name, ring in described[part].items() if ring} for part in ("tiles", "distinct")}
    return {**described, **rings}


def _batches(client: redis.Redis, prefix: str) -> Iterator[list[bytes]]:
    seen: set[bytes] = set()  # SCAN may name a key twice
    batch: list[bytes] = []
    for key in client.scan_iter(match=f"{prefix}:*", count=_SCAN):
        if key not in seen:
            seen.add(key)
            batch.append(key)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    yield batch


def _read_other(client: redis.Redis, key: bytes, rest: bytes, books: Bookkeeping) -> None:
    match = _GROUP.fullmatch(rest)
    if match:
        group, what = int(match[1]), match[2]
        if what == b"meta":
            fields: Mapping[Any, Any] = client.hgetall(key)
            books.fronts |= _fronts(fields, group)
        elif what == b"outbox" and client.hlen(key):
            books.outbox[group] = int(client.hlen(key))
        return
    if _PAYLOAD.fullmatch(rest):
        if client.pttl(key) == _FOR_EVER:
            books.lasting.append(key.decode())
        return
    match = _HOLDERS.fullmatch(rest)
    if match:
        bitmap: Any = client.get(key) or b""
        groups = {8 * at + bit for at, byte in enumerate(bitmap) for bit in range(8) if byte & (0x80 >> bit)}
        books.holders[match[1].decode(), match[2].decode()] = groups
        return
    if rest not in _OF_ALL_GROUPS:
        books.unknown.append(key.decode(errors="replace"))
