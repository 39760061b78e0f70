"""Checks the store every ten seconds, beside the batches: how full it is, whether it evicts state, and whether it lost commits.

An evicted key is a user without history, and the answers still look right. So evictions must be reported when they happen.
A store that was emptied or restored ends the worker also while no batch comes that would find it out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from stream_app.errors import ContractError, MillraceError, StoreRolledBackError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream_app.metrics import Metrics
    from stream_app.store.port import Store, StoreHealth

log = logging.getLogger(__name__)

_SLOW_S: Final = 2.0  # a check that waits so long is no answer
_EVERY_S: Final = 10.0  # at most one Prometheus scrape; a check costs the server some tens of microseconds


class StoreWatch:
    """Sets the gauges of the store, logs evictions, and compares commit numbers. One task in the worker's loop.

    `commits` returns group -> last commit number that the store has confirmed, for the groups owned now.
    """

    def __init__(
        self, store: Store, metrics: Metrics, commits: Callable[[], Mapping[int, int]], *, every_s: float = _EVERY_S
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._commits = commits
        self._every_s = every_s
        self._evicted: dict[str, int] = {}  # by server, at its last check; a server that is away may come back
        self._refused = False
        self._failed = False
        self._began_s: float | None = None  # of the check that runs
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the checks; does nothing if they run."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="store watch")

    async def stop(self) -> None:
        """Stop the checks; `start` may follow."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def wait_failed(self) -> None:
        """Return when the checks are stopped.

        Raises:
            StoreRolledBackError: The store has fewer commits than it has confirmed.
        """
        if self._task is not None:
            await asyncio.wait([task := self._task])
            if not task.cancelled():
                task.result()

    def store_answers(self) -> bool:
        """Return whether the last check got an answer, and the one that runs does not wait for one."""
        waits = self._began_s is not None and time.monotonic() - self._began_s > _SLOW_S
        return not self._failed and not waits

    async def check(self) -> None:
        """Check the store once.

        Raises:
            StoreUnavailableError: The store does not answer.
            StoreRolledBackError: It has fewer commits than it has confirmed.
            ContractError: The store refuses the request.
        """
        confirmed = dict(self._commits())  # before the read: commits of batches in between are newer
        (await self._store.read({})).refuse_rollback(confirmed)
        health = await self._store.health()
        metrics = self._metrics
        metrics.store_memory.set(health.used_bytes)
        metrics.store_memory_limit.set(health.limit_bytes)
        metrics.store_evicted.set(health.evicted)
        metrics.store_replicas.set(health.replicas)
        new = self._newly_evicted(health)
        if new:
            metrics.evictions_seen.inc(new)
            log.critical("%s", _eviction_message(new, health))

    def _newly_evicted(self, health: StoreHealth) -> int:
        """Return how many keys known servers have evicted since the last check; counting of new servers starts now."""
        new, before = 0, 0
        for server, evicted in (health.evicted_by_server or {"": health.evicted}).items():
            last = self._evicted.get(server)
            if last is None:  # the worker has just started, or a replica has taken over
                before += evicted
            else:
                new += evicted - last if evicted >= last else evicted  # a restarted server counts from 0
            self._evicted[server] = evicted
        if before:
            log.error("the store has evicted %d keys since its start: that many entities lost their past", before)
        return new

    async def _run(self) -> None:
        while True:
            self._began_s = time.monotonic()
            try:
                await self.check()
                self._refused = self._failed = False
            except StoreRolledBackError:
                raise
            except ContractError as err:  # rights may be granted at any time
                if not self._refused:
                    log.warning("the store's health is not watched as long as it refuses to tell: %s", err)
                self._refused = True
            except MillraceError as err:  # batches meet the same error and handle it
                self._failed = True
                log.warning("the store's health could not be seen: %s", err)
            self._began_s = None
            await asyncio.sleep(self._every_s)


def _eviction_message(count: int, health: StoreHealth) -> str:
    return (
        f"the store has evicted {count} keys since the last look ({health.used_bytes} of {health.limit_bytes} bytes used, "
        f"maxmemory-policy {health.policy}): that many entities have lost their past, and their features are wrong from now on. "
        "Set maxmemory-policy to noeviction and give it more memory; then see 'Redis memory' in docs/runbook.md"
    )
