"""Builders for the tests of the store's contract: rows to read, steps to commit, results to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from stream_app.features.columns.event_columns import EntityRows
from stream_app.features.state.blobs import Blobs, Replicas
from stream_app.store.port import CommitStatus, GroupStep, StateWrite, Store

__all__ = [
    "APPLIED",
    "BEHIND",
    "DEVICE",
    "FENCED",
    "GROUPS",
    "REPEATED",
    "SHARED",
    "TTL_MS",
    "USER",
    "commit",
    "lists",
    "rows",
    "step",
    "user_blob",
    "write",
]

GROUPS: Final = 24
SHARED: Final = frozenset({"device"})
TTL_MS: Final = 3_600_000
USER: Final = b"u" * 16
DEVICE: Final = b"d" * 16
APPLIED, REPEATED, FENCED, BEHIND = CommitStatus.APPLIED, CommitStatus.REPEATED, CommitStatus.FENCED, CommitStatus.BEHIND


def rows(kind: str, *pairs: tuple[int, bytes]) -> dict[str, EntityRows]:
    groups = np.array([group for group, _ in pairs], np.int32)
    return {kind: EntityRows(groups, [key for _, key in pairs], np.arange(len(pairs), dtype=np.int32))}


def write(kind: str, *blobs: tuple[bytes, bytes]) -> StateWrite:
    return StateWrite(kind, kind in SHARED, [key for key, _ in blobs], Blobs.of([blob for _, blob in blobs]), TTL_MS)


def step(
    epoch: str,
    *,
    group: int = 0,
    ranges: Mapping[str, tuple[int, int]] | None = None,
    payload: bytes = b"",
    writes: Sequence[StateWrite] = (),
    published: Sequence[int] = (),
    after: int = 0,
) -> GroupStep:
    return GroupStep(group, epoch, ranges or {"clicks": (0, 10)}, payload, writes, published, after)


async def commit(store: Store, *steps: GroupStep) -> list[CommitStatus]:
    return [result.status for result in await store.commit(steps)]


async def user_blob(store: Store, group: int = 0, key: bytes = USER) -> bytes:
    """The user's blob, empty where there is none."""
    return (await store.read(rows("user", (group, key)))).own["user"][0]


def lists(replicas: Replicas) -> list[list[bytes]]:
    """The replicas of each row."""
    by_row: list[list[bytes]] = [[] for _ in replicas.held]
    for row, blob in zip(replicas.of.tolist(), replicas.blobs, strict=True):
        by_row[row].append(blob)
    return by_row
