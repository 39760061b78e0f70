"""Looks at the store every ten seconds, beside the batches: how full it is, and whether it throws state out.

An evicted key is a user without history: every answer goes on to look right. So it must be seen while it happens.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from stream_app.errors import ContractError, MillraceError

if TYPE_CHECKING:
    from stream_app.metrics import Metrics
    from stream_app.store.port import Store, StoreHealth

__all__ = ["StoreWatch"]

log = logging.getLogger(__name__)

_EVERY_S: Final = 10.0  # a Prometheus scrape or less; asking costs the server some tens of microseconds


class StoreWatch:
    """Keeps the gauges of the store, and says what an operator must know of it. One task, in the worker's loop."""

    def __init__(self, store: Store, metrics: Metrics, *, every_s: float = _EVERY_S) -> None:
        self._store = store
        self._metrics = metrics
        self._every_s = every_s
        self._evicted: dict[str, int] = {}  # by server, when it was last seen; one that is away stays, it may come back
        self._refused = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look; does nothing if it has begun."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="store watch")

    async def stop(self) -> None:
        """Look no more; `start` may follow."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def check(self) -> None:
        """Look once.

        Raises:
            StoreUnavailableError: The store does not answer.
            ContractError: It refuses to tell.
        """
        health = await self._store.health()
        metrics = self._metrics
        metrics.store_memory.set(health.used_bytes)
        metrics.store_memory_limit.set(health.limit_bytes)
        metrics.store_evicted.set(health.evicted)
        metrics.store_replicas.set(health.replicas)
        new = self._newly_evicted(health)
        if new:
            metrics.evictions_seen.inc(new)
            log.critical("%s", _what_was_lost(new, health))

    def _newly_evicted(self, health: StoreHealth) -> int:
        """How many keys were evicted since the last look, by servers that were seen before; the others begin to be counted."""
        new, before = 0, 0
        for server, evicted in (health.evicted_by_server or {"": health.evicted}).items():
            last = self._evicted.get(server)
            if last is None:  # the worker has just started, or a replica has taken over
                before += evicted
            else:
                new += evicted - last if evicted >= last else evicted  # one that was started again counts from 0
            self._evicted[server] = evicted
        if before:
            log.error("the store has evicted %d keys since its start: that many entities lost their past", before)
        return new

    async def _run(self) -> None:
        while True:
            try:
                await self.check()
                self._refused = False
            except ContractError as err:  # rights may be granted at any time
                if not self._refused:
                    log.warning("the store's health is not watched as long as it refuses to tell: %s", err)
                self._refused = True
            except MillraceError as err:  # the batches meet it too, and they decide what follows
                log.warning("the store's health could not be seen: %s", err)
            await asyncio.sleep(self._every_s)


def _what_was_lost(count: int, health: StoreHealth) -> str:
    return (
        f"the store has evicted {count} keys since the last look ({health.used_bytes} of {health.limit_bytes} bytes used, "
        f"maxmemory-policy {health.policy}): that many entities have lost their past, and their features are wrong from now on. "
        "Set maxmemory-policy to noeviction and give it more memory; then see 'Redis memory' in docs/runbook.md"
    )
