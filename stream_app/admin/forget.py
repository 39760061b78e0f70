"""Erases one person from the store, and proves it by reading again.

A worker may score the person's events meanwhile. A batch that was read before an erasure and is committed after it brings back
what it had read; of a group only one batch at a time is between its read and its commit. So an erasure counts when the group has
made another commit, or none for as long as a silent worker keeps its partitions, and another pass finds nothing. Of somebody who
is active at that very moment there is something: it must have begun after the call, in two passes in a row.

A pass cannot tell what is old from what is new: it erases the whole state of the person. So what they do between the call and
its end may be erased with the rest; what they do after its end stays. Answers are told apart, by the time of their event.
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
from stream_app.codec.outbox import outbox_without
from stream_app.features.columns.event_columns import EntityRows
from stream_app.features.engine import FeatureEngine
from stream_app.store.port import Store

__all__ = ["ForgetReport", "ForgetTimeouts", "forget", "group_of"]

_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class ForgetTimeouts:
    """How long to try for a proof, and after what time without a commit a group counts as idle."""

    total_ms: int
    idle_ms: int


@dataclass(slots=True)
class ForgetReport:
    """What came of it.

    Attributes:
        group: The partition group of the user's key.
        groups: All that were looked at: this one, and any other that held state of the user.
        erased: Keys by kind of entity; `answers`: commits whose answers to the user were taken out.
        waiting: (group, commit) whose answers to the user are not published yet; they stay until they are.
        oldest_ms: Event time that the state begins with that is there now, made since the last pass; None: there is none.
        seen: How each group came to rest, for people.
        proved: Nothing of the time before the call is left in the store.
    """

    group: int
    groups: tuple[int, ...]
    erased: Counter[str] = field(default_factory=Counter)
    waiting: tuple[tuple[int, int], ...] = ()
    oldest_ms: int | None = None
    seen: dict[int, str] = field(default_factory=dict)
    proved: bool = False


def group_of(user: str, partitions: int) -> int:
    """The partition that Kafka's default partitioner (murmur2) gives to the key of `user`."""
    from kafka.partitioner import murmur2

    return int((murmur2(user.encode()) & 0x7FFFFFFF) % partitions)


async def forget(
    store: Store, engine: FeatureEngine, digest: bytes, user: str, partitions: int, clock: Clock, patience: ForgetTimeouts
) -> ForgetReport:
    """Erase what the store keeps of one user; may be called again and again, beside running workers.

    Args:
        store: Where the state lives.
        engine: Of the catalogue that runs.
        digest: The user's key in the state.
        user: Whose.
        partitions: How many partition groups there are.
        clock: Tells when the call was. State must begin later to be no sign of the time before, and may be erased all the same;
            answers to events from then on are not touched.
        patience: See there.

    Raises:
        StoreUnavailableError: The store does not answer; what is erased by then stays so, nothing is proved.
    """
    called_ms = clock.now_ms()
    engine.learn_layouts(await store.layouts({}))
    eraser = _Eraser(store, engine, digest, user.encode(), called_ms, patience)
    # Producers with another partitioner put the user elsewhere.
    _, held = await eraser.look(range(partitions))
    group = group_of(user, partitions)
    done = ForgetReport(group, tuple(sorted({group, *held})))
    give_up = asyncio.get_running_loop().time() + patience.total_ms / 1000
    proofs = [await eraser.run(group, done, give_up) for group in done.groups]
    done.proved = all(proofs)
    return done


@dataclass(frozen=True, slots=True)
class _Eraser:
    store: Store
    engine: FeatureEngine
    digest: bytes
    key: bytes
    called_ms: int
    patience: ForgetTimeouts

    async def look(self, groups: Sequence[int]) -> tuple[dict[int, int], dict[int, int | None]]:
        """Read the commit number of every group, and for those of `groups` that hold the user the event time it begins with."""
        kind, count = self.engine.kinds[0].name, len(groups)
        rows = EntityRows(np.array(groups, np.int32), [self.digest] * count, np.arange(count, dtype=np.int32))
        snapshot = await self.store.read({kind: rows})
        held = {}
        for group, blob in zip(groups, snapshot.own[kind], strict=True):
            if blob:
                first_ms = self.engine.describe(kind, blob)["first_ms"]
                held[group] = first_ms if isinstance(first_ms, int) else None
        return dict(snapshot.reads), held

    async def run(self, group: int, done: ForgetReport, give_up: float) -> bool:
        """Erase until it is proved, or until the loop's time is `give_up`."""
        loop = asyncio.get_running_loop()
        passes = 0  # in a row that saw only what began after the call
        while True:
            erased = await self.store.erase(group, self.digest)
            done.erased.update(erased.keys)
            await self._purge(group, done)
            done.seen[group] = await self._at_rest(group, erased.commit)
            done.oldest_ms = (await self.look([group]))[1].get(group)
            if not await self._purge(group, done):
                passes = 0
            elif done.oldest_ms is None:
                left = await self.store.erase(group, self.digest)
                done.erased.update(left.keys)
                if not left.total:
                    return True
            else:
                passes = passes + 1 if done.oldest_ms >= self.called_ms else 0
                if passes == 2:
                    return True
            if loop.time() >= give_up:
                return False
            await asyncio.sleep(_PAUSE_S)

    async def _purge(self, group: int, done: ForgetReport) -> bool:
        """Take the user out of the kept answers; tells whether none were left there."""
        cleaned = partial(outbox_without, key=self.key, before_ms=self.called_ms)
        purged = await self.store.purge_answers(group, cleaned)
        done.erased["answers"] += purged.cleaned
        others = tuple(place for place in done.waiting if place[0] != group)
        done.waiting = (*others, *((group, commit) for commit in purged.waiting))
        return not purged.cleaned and not purged.waiting

    async def _at_rest(self, group: int, commit: int) -> str:
        """Wait until no batch is under way that was read before commit `commit` was the last; say how it was seen."""
        loop = asyncio.get_running_loop()
        idle_at = loop.time() + self.patience.idle_ms / 1000
        while True:
            now = (await self.look([group]))[0][group]
            if now > commit:
                return f"group {group} has made commit {now} since"
            if loop.time() >= idle_at:
                return f"group {group} has made no commit for {self.patience.idle_ms / 1000:g} s"
            await asyncio.sleep(_PAUSE_S)
