"""What the agents ask of the worker: hooks at an assignment, and a handler of batches.

The order that every implementation may rely on, for one process:

    on_assigned(1) -> batches of assignment 1 -> on_revoked(1) -> on_assigned(2) -> batches of assignment 2 -> ...

A batch never mixes assignments. A batch of assignment n may still be running after on_revoked(n), when it outlasted the
drain: its writes must be refused by the epoch that on_assigned(n + 1), here or on another worker, has drawn from the
store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream_app.agents.chunks import Chunk

__all__ = ["AssignmentHooks", "BatchHandler", "CommitBarrier", "LogPosition", "TopicPartition"]


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class LogPosition(NamedTuple):
    """Where a partition should be read from, and what its log still holds: offsets [beginning, end)."""

    start: int
    beginning: int
    end: int


class AssignmentHooks(Protocol):
    """Called on the worker's event loop. An exception from any of them ends the worker with a non-zero status."""

    async def on_assigned(self, partitions: frozenset[TopicPartition], generation: int) -> Mapping[TopicPartition, int]:
        """Claim the partitions before any record of them is delivered.

        The consumer heartbeats only after this returns: stay well below the session timeout.

        Args:
            partitions: All partitions this worker now owns, also those it owned before; may be empty.
            generation: Number of this assignment in this process, from 1; chunks carry it.

        Returns:
            For each partition the store knows: its front (all offsets below it are applied).
        """
        ...

    async def wait_republished(self) -> None:
        """Return when what the claims have left to do in the background is done.

        Awaited once an assignment, beside its batches.

        Raises:
            Exception: It failed; the worker ends with this, unless the assignment is over.
        """
        ...

    async def on_revoked(self, partitions: frozenset[TopicPartition], generation: int) -> None:
        """Let the partitions go, at a rebalance or when the worker stops after a signal; not after a crash.

        Batches in flight have been drained (or the drain timed out) and offsets committed.
        """
        ...

    async def on_out_of_range(self, place: TopicPartition, position: LogPosition) -> int:
        """The wanted position lies outside the log (records expired, or the topic was made anew).

        Returns:
            The offset to start at, in [beginning, end].

        Raises:
            MillraceError: Going on would lose or repeat events silently; the worker ends with this message.
        """
        ...


class CommitBarrier(Protocol):
    """A batch's place in the order of commits."""

    async def wait_previous_committed(self) -> None:
        """Block until the previous batches of the same partition groups have committed their state.

        Raises:
            AbandonedError: One of them failed before it committed; this one must not go on.
        """
        ...

    def mark_committed(self) -> None:
        """Say that this batch's state is committed, so that the next one may read."""
        ...


class BatchHandler(Protocol):
    """Scores one batch and publishes its answers."""

    async def handle(self, batch: Sequence[Chunk], barrier: CommitBarrier) -> None:
        """Return when the batch's answers are acknowledged by the broker; only then are its offsets committed.

        Chunks of one partition stand in offset order and join without a gap. Several calls run at the same time, each
        for a later batch; `turn` puts their commits in order. An exception ends the worker and nothing of this batch or
        of later ones is acknowledged, except a `FencedError`: another worker owns the partitions, so the batch is
        dropped and a new assignment awaited.
        """
        ...
