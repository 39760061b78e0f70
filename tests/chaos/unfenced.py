"""A Redis store without its fence; the acceptance cases must fail over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stream_app.features.columns.event_columns import EntityRows
from stream_app.store import redis_scripts
from stream_app.store.port import Claim, Snapshot
from stream_app.store.redis_store import RedisStore

__all__ = ["UnfencedStore", "unfenced"]


def unfenced(script: str) -> str:
    """The script without its fence."""
    head, _, rest = script.partition("-- fence begin")
    _, fence, tail = rest.partition("-- fence end")
    assert fence, "the script has no fence to take away"
    return head + tail


class UnfencedStore(RedisStore):
    """Takes every step, and has forgotten every position."""

    def __init__(self, url: str, **arguments: Any) -> None:
        super().__init__(url, **arguments)
        self._commit = self._redis.register_script(unfenced(redis_scripts.COMMIT))

    async def claim(self, group: int, owner: str) -> Claim:
        """Draw an epoch, and forget the fronts."""
        return replace(await super().claim(group, owner), fronts={})

    async def read(self, rows: Mapping[str, EntityRows]) -> Snapshot:
        """Read, and let no commit number look lost."""
        snapshot = await super().read(rows)
        return replace(snapshot, reads=dict.fromkeys(snapshot.reads, 2**31))
