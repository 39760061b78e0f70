"""Answers at the current event time of a canonical replay, for events that come again.

A duplicate has the event time of its original, and in canonical order time never goes back. So only the answers of the newest
event time are needed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from stream_app.codec.outbox import OutboxBatch, encode_outbox
from stream_app.store.memory import MemoryStore


class DuplicateCache(MemoryStore):
    """Caches the messages of batches, each under the number of its first event (or its commit); has no other state."""

    def __init__(self) -> None:
        super().__init__(1, frozenset())
        self._firsts: list[int] = []
        self._newest_ms: list[int] = []
        self._outboxes: list[OutboxBatch] = []

    def add(self, first: int, newest_ms: int, outbox: OutboxBatch) -> None:
        """Add a batch; `newest_ms` is the time of its last record."""
        self._firsts.append(first)
        self._newest_ms.append(newest_ms)
        self._outboxes.append(outbox)

    def forget(self, time_ms: int) -> list[int]:
        """Drop the batches that end before `time_ms`; return their numbers."""
        count = 0
        while count < len(self._newest_ms) and self._newest_ms[count] < time_ms:
            count += 1
        expired = self._firsts[:count]
        for column in (self._firsts, self._newest_ms, self._outboxes):
            del column[:count]
        return expired

    def entries(self) -> list[tuple[int, int, bytes]]:
        """Return number, time and payload of each batch."""
        return [
            (first, newest_ms, encode_outbox(outbox))
            for first, newest_ms, outbox in zip(self._firsts, self._newest_ms, self._outboxes, strict=True)
        ]

    async def answers(self, group: int, commits: Sequence[int]) -> dict[int, bytes]:
        """Return the payloads of the batches that contain the events with these numbers."""
        payloads: dict[int, bytes] = {}
        encoded: dict[int, bytes] = {}
        for number in commits:
            at = bisect_right(self._firsts, number) - 1
            if at >= 0:
                if at not in encoded:
                    encoded[at] = encode_outbox(self._outboxes[at])
                payloads[number] = encoded[at]
        return payloads
