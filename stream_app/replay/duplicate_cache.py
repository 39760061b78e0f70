"""The answers of the event time that a canonical replay stands at: a copy of an event is answered with the first one's.

A copy has its first one's event time, and in canonical order time never goes back. So the answers of the newest time are all that
may be asked for, whatever happened since.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from stream_app.codec.outbox import OutboxBatch, encode_outbox
from stream_app.store.memory import MemoryStore

__all__ = ["DuplicateCache"]


class DuplicateCache(MemoryStore):
    """Keeps the messages of batches, each under the number of its first event (or of its commit); holds no other state."""

    def __init__(self) -> None:
        super().__init__(1, frozenset())
        self._firsts: list[int] = []
        self._newest_ms: list[int] = []
        self._outboxes: list[OutboxBatch] = []

    def add(self, first: int, newest_ms: int, outbox: OutboxBatch) -> None:
        """Keep a batch; `newest_ms` is the time of its last record."""
        self._firsts.append(first)
        self._newest_ms.append(newest_ms)
        self._outboxes.append(outbox)

    def forget(self, time_ms: int) -> list[int]:
        """Drop the batches that end before `time_ms`; return their numbers."""
        count = 0
        while count < len(self._newest_ms) and self._newest_ms[count] < time_ms:
            count += 1
        gone = self._firsts[:count]
        for held in (self._firsts, self._newest_ms, self._outboxes):
            del held[:count]
        return gone

    def kept(self) -> list[tuple[int, int, bytes]]:
        """Return what is kept: number, time and payload of each batch."""
        return [
            (first, newest_ms, encode_outbox(outbox))
            for first, newest_ms, outbox in zip(self._firsts, self._newest_ms, self._outboxes, strict=True)
        ]

    async def answers(self, group: int, commits: Sequence[int]) -> dict[int, bytes]:
        """Return the payloads of the batches that the events of these numbers are in."""
        found: dict[int, bytes] = {}
        encoded: dict[int, bytes] = {}
        for number in commits:
            at = bisect_right(self._firsts, number) - 1
            if at >= 0:
                if at not in encoded:
                    encoded[at] = encode_outbox(self._outboxes[at])
                found[number] = encoded[at]
        return found
