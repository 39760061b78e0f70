"""The order of commits: a batch reads only after the previous batches of its partition groups have committed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stream_app.errors import AbandonedError

if TYPE_CHECKING:
    from collections.abc import Sequence


class OrderedCommitBarrier:
    """Implements `stream_app.agents.ports.CommitBarrier`.

    Args:
        previous: The last barriers of the batch's groups.
    """

    def __init__(self, previous: Sequence[OrderedCommitBarrier]) -> None:
        self._previous = previous
        self._done = asyncio.Event()
        self._ok = False

    async def wait_previous_committed(self) -> None:
        """Wait until the previous batches of the same groups have committed.

        Raises:
            AbandonedError: One of them failed before its commit.
        """
        for barrier in self._previous:
            await barrier._done.wait()
            if not barrier._ok:
                raise AbandonedError("a batch before failed before its commit, so this one was given up")
        self._previous = ()  # else each barrier would hold the chain of all before it

    def mark_committed(self) -> None:
        """Let the next batch read."""
        self._ok = True
        self._done.set()

    def finish(self, *, ok: bool) -> None:
        """End the batch: the handler has returned (ok) or raised. No batch waits for this barrier any longer."""
        self._ok = self._ok or ok
        self._done.set()
