"""The replicas that this process has announced in the index of holders, so that it announces each once a day only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from stream_app.store.port import GroupStep, StateWrite

_MOST: Final = 1_000_000  # (kind, group, key) triples; about 100 bytes each
# A holder's bit is set again a day after it was last set, and expires two days after the replica would: so it outlives every
# replica written in between, and goes with the last of them.
_ANNOUNCE_EVERY_S: Final = 86_400.0
_EXTRA_MS: Final = 2 * 86_400_000


@dataclass(slots=True)
class _Known:
    since: float
    keys: set[bytes] = field(default_factory=set)


class AnnouncedReplicas:
    """The announced keys by kind and group; the whole set of a kind and group expires a day after its first key."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], _Known] = {}

    def clear(self) -> None:
        """Forget all announcements: the server may have lost its last writes."""
        self._known.clear()

    def missing(self, steps: Sequence[GroupStep]) -> list[tuple[str, int, int, list[bytes]]]:
        """Return the replicas to announce before the steps: (kind, group, ms until the entry expires, keys)."""
        now = asyncio.get_running_loop().time()
        new = []
        for write, group in _shared_writes(steps):
            known = self._known.get((write.kind, group))
            fresh = known is not None and known.since > now - _ANNOUNCE_EVERY_S
            keys = [key for key in write.keys if key not in known.keys] if known and fresh else list(write.keys)
            if keys:
                new.append((write.kind, group, write.ttl_ms + _EXTRA_MS, keys))
        return new

    def add(self, steps: Sequence[GroupStep]) -> None:
        """Record that the keys of the steps are announced."""
        now = asyncio.get_running_loop().time()
        if sum(len(known.keys) for known in self._known.values()) > _MOST:
            self._known.clear()
        for write, group in _shared_writes(steps):
            known = self._known.get((write.kind, group))
            if known is None or known.since <= now - _ANNOUNCE_EVERY_S:
                known = self._known[write.kind, group] = _Known(now)
            known.keys.update(write.keys)


def _shared_writes(steps: Sequence[GroupStep]) -> Iterator[tuple[StateWrite, int]]:
    return ((write, step.group) for step in steps for write in step.writes if write.shared)
