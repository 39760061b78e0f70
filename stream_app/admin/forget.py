"""Erases one person's state from the store, and proves it by reading again.

Workers may score the person's events at the same time. A batch that reads before the erasure and commits after it writes the old
state back; per group only one batch at a time is between its read and its commit. So an erasure is proved when the group has made
another commit (or none for as long as a silent worker keeps its partitions) and another pass finds no state. A person who is
active at that moment has state again: it must have begun after the call, in two passes in a row.

A pass erases the whole state of the person, old and new. So activity between the call and its end may be erased too; activity
after its end stays. Answers are distinguished by the time of their event.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from stream_app.clock import Clock
from stream_app.codec.key_partition import partition_of
from stream_app.codec.outbox import outbox_without
from stream_app.features.columns.event_columns import EntityRows
from stream_app.features.engine import FeatureEngine
from stream_app.store.port import Store

_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class ForgetTimeouts:
    """The time limit of the proof, and the time without a commit after which a group counts as idle."""

    total_ms: int
    idle_ms: int


@dataclass(slots=True)
class ForgetReport:
    """The result of an erasure.

    Attributes:
        group: The partition group of the user's key.
        groups: All groups that were read: this one, and any other with state of the user.
        erased: Erased keys by kind of entity; `answers`: commits whose answers to the user were removed.
        waiting: (group, commit) with answers to the user that are not published yet; they stay until then.
        oldest_ms: First event time of the state that exists now, made since the last pass; None: no state.
        seen: Why each group counts as settled, in words.
        proved: Whether the store has no state and answers from before the call.
    """

    group: int
    groups: tuple[int, ...]
    erased: Counter[str] = field(default_factory=Counter)
    waiting: tuple[tuple[int, int], ...] = ()
    oldest_ms: int | None = None
    seen: dict[int, str] = field(default_factory=dict)
    proved: bool = False


def group_of(user: str, partitions: int) -> int:
    """Return the partition that Kafka's default partitioner (murmur2) gives to the key of `user`."""
    return partition_of(user.encode(), partitions)


async def forget(
    store: Store, engine: FeatureEngine, digest: bytes, user: str, partitions: int, clock: Clock, timeouts: ForgetTimeouts
) -> ForgetReport:
    """Erase the state and answers of one user; idempotent, and safe beside running workers.

    Args:
        store: The store.
        engine: The feature engine of the workers' catalogue.
        digest: The user's key in the state.
        user: The user's id.
        partitions: Number of partition groups.
        clock: The time of the call. State that begins later does not contradict the proof, and may be erased too; answers to
            later events stay.
        timeouts: Time limits.

    Raises:
        StoreUnavailableError: The store does not answer; the erasure is then partial and not proved.
    """
    called_ms = clock.now_ms()
    engine.learn_layouts(await store.layouts({}))
    eraser = _Eraser(store, engine, digest, user.encode(), called_ms, timeouts)
    # Producers with another partitioner put the user in another group.
    _, first_times = await eraser.read_groups(range(partitions))
    group = group_of(user, partitions)
    report = ForgetReport(group, tuple(sorted({group, *first_times})))
    give_up = asyncio.get_running_loop().time() + timeouts.total_ms / 1000
    proofs = [await eraser.run(group, report, give_up) for group in report.groups]
    report.proved = all(proofs)
    return report


@dataclass(frozen=True, slots=True)
class _Eraser:
    store: Store
    engine: FeatureEngine
    digest: bytes
    key: bytes
    called_ms: int
    timeouts: ForgetTimeouts

    async def read_groups(self, groups: Sequence[int]) -> tuple[dict[int, int], dict[int, int | None]]:
        """Return the commit number of every group, and the first event time of the user's state by group."""
        kind, count = self.engine.kinds[0].name, len(groups)
        rows = EntityRows(np.array(groups, np.int32), [self.digest] * count, np.arange(count, dtype=np.int32))
        snapshot = await self.store.read({kind: rows})
        first_times = {}
        for group, blob in zip(groups, snapshot.own[kind], strict=True):
            if blob:
                first_ms = self.engine.describe(kind, blob)["first_ms"]
                first_times[group] = first_ms if isinstance(first_ms, int) else None
        return dict(snapshot.reads), first_times

    async def run(self, group: int, report: ForgetReport, give_up: float) -> bool:
        """Erase until it is proved, or until the loop's time is `give_up`; return whether it is proved."""
        loop = asyncio.get_running_loop()
        passes = 0  # in a row that found only state from after the call
        while True:
            erased = await self.store.erase(group, self.digest)
            report.erased.update(erased.keys)
            await self._purge(group, report)
            report.seen[group] = await self._settled(group, erased.commit)
            report.oldest_ms = (await self.read_groups([group]))[1].get(group)
            if not await self._purge(group, report):
                passes = 0
            elif report.oldest_ms is None:
                left = await self.store.erase(group, self.digest)
                report.erased.update(left.keys)
                if not left.total:
                    return True
            else:
                passes = passes + 1 if report.oldest_ms >= self.called_ms else 0
                if passes == 2:
                    return True
            if loop.time() >= give_up:
                return False
            await asyncio.sleep(_PAUSE_S)

    async def _purge(self, group: int, report: ForgetReport) -> bool:
        """Remove the user's stored answers; return whether there were none."""
        cleaned = partial(outbox_without, key=self.key, before_ms=self.called_ms)
        purged = await self.store.purge_answers(group, cleaned)
        report.erased["answers"] += purged.cleaned
        of_other_groups = tuple(waiting for waiting in report.waiting if waiting[0] != group)
        report.waiting = (*of_other_groups, *((group, commit) for commit in purged.waiting))
        return not purged.cleaned and not purged.waiting

    async def _settled(self, group: int, commit: int) -> str:
        """Wait until every batch that read before `commit` has committed or failed; return the evidence in words."""
        loop = asyncio.get_running_loop()
        idle_at = loop.time() + self.timeouts.idle_ms / 1000
        while True:
            now = (await self.read_groups([group]))[0][group]
            if now > commit:
                return f"group {group} has made commit {now} since"
            if loop.time() >= idle_at:
                return f"group {group} has made no commit for {self.timeouts.idle_ms / 1000:g} s"
            await asyncio.sleep(_PAUSE_S)
