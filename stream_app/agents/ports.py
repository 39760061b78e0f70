"""The types and protocols between Kafka's side of a worker and its handler of batches.

The calls of one process come in this order, and every implementation may rely on it:

    on_assigned(1) -> batches of assignment 1 -> on_revoked(1) -> on_assigned(2) -> batches of assignment 2 -> ...

A batch never mixes assignments. A batch of assignment n that outlasts the drain may still run after on_revoked(n). The store
then refuses its writes, because on_assigned(n + 1), here or on another worker, has drawn a new epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka import ConsumerRecord

    from stream_app.agents.options import AgentOptions

WEIGHT_BYTES: Final = 4096  # bytes of keys and values that weigh as much as one record


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class LogPosition(NamedTuple):
    """The offset to start a partition at, and the offsets [beginning, end) that its log still holds."""

    start: int
    beginning: int
    end: int


class StartPositions(dict[TopicPartition, int]):
    """The offset that each partition of an assignment starts at; `committed`: Kafka's committed offsets, where there are any."""

    committed: dict[TopicPartition, int]


@dataclass(slots=True, frozen=True, eq=False)
class Chunk:
    """Consecutive records of one partition: the unit in which records travel from the fetcher to a batch.

    A chunk covers the offsets [start, end). Transaction markers, aborted records and compacted holes belong to the range although
    no record shows them, so chunks of one partition and assignment always join: the end of one is the start of the next. One
    number for each partition (the front) can therefore stand in place of a set of acknowledged offsets.

    Attributes:
        topic: Source topic, with its prefix.
        partition: Partition of that topic.
        start: First offset covered.
        end: First offset no longer covered; end > start.
        generation: Number of the assignment that fetched it.
        records: Ascending by offset, all inside [start, end); empty if the range holds only markers or holes.
        more: Whether further chunks of the same fetch follow at once: a batch may wait for them.
        highwater: End of the partition's log at the fetch, -1 if unknown; highwater - end is the lag.
        size_bytes: Size of all keys and values.
    """

    topic: str
    partition: int
    start: int
    end: int
    generation: int
    records: Sequence[ConsumerRecord[bytes | None, bytes | None]]
    more: bool = False
    highwater: int = -1
    size_bytes: int = 0

    @property
    def weight(self) -> int:
        """What the chunk counts against the limits of batch and buffer: 1 for a record, at least 1 for each 4 KiB of data.

        Events are far smaller than 4 KiB, so a limit of 512 means 512 events; of records of 1 MB it means two.
        """
        return max(len(self.records), self.size_bytes // WEIGHT_BYTES)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.records)

    def __bool__(self) -> bool:
        """Return True: a chunk without records still moves the front."""
        return True

    def __repr__(self) -> str:
        """Return the place, not the records."""
        place = f"{self.topic}-{self.partition} [{self.start}, {self.end})"
        return f"<Chunk {place} of {len(self.records)} records, assignment {self.generation}>"


class AppSideConsumer(Protocol):
    """The consumer on the app's event loop, as its thread calls it; all coroutines run on that loop."""

    options: AgentOptions
    hooks: AssignmentHooks

    async def claim(self, partitions: frozenset[TopicPartition], generation: int) -> Mapping[TopicPartition, int]:
        """Claim the partitions in the store and return their fronts."""
        ...

    async def start_assignment(self, generation: int, starts: StartPositions) -> None:
        """Count acknowledgements of this assignment from now on, from these offsets."""
        ...

    async def fail(self, what: str, error: BaseException) -> None:
        """End the worker with this error."""
        ...


class AssignmentHooks(Protocol):
    """Called on the worker's event loop. An exception from any of them ends the worker with a non-zero status."""

    async def check_topics(self, ids: Mapping[str, str]) -> None:
        """Compare Kafka's ids of the source topics (name -> id) with those beside the fronts; before a claim, and now and then.

        Raises:
            ContractError: A topic was deleted and made anew; the worker ends.
            StoreUnavailableError: The store does not answer.
        """
        ...

    async def on_assigned(self, partitions: frozenset[TopicPartition], generation: int) -> Mapping[TopicPartition, int]:
        """Claim the partitions before any of their records is delivered.

        The consumer sends no heartbeat before this returns, so it must return well within the session timeout.

        Args:
            partitions: All partitions that this worker owns now, including those it owned before; may be empty.
            generation: Number of this assignment in this process, from 1; chunks carry it.

        Returns:
            The front of each partition that has one: all offsets below it are applied.
        """
        ...

    def store_answers(self) -> bool:
        """Return whether the store answered lately; for `/readyz`."""
        ...

    async def watch_assignment(self) -> None:
        """Publish the outboxes of the claimed groups again, and watch the store until the assignment ends.

        Awaited once for each assignment, beside its batches.

        Raises:
            Exception: Publishing failed, or the store lost commits; the worker ends with this error, unless the assignment ended.
        """
        ...

    async def on_revoked(self, partitions: frozenset[TopicPartition], generation: int) -> None:
        """Release the partitions at a rebalance or when the worker stops after a signal; not called after a crash.

        Batches in flight have been drained (or the drain timed out) and offsets are committed.
        """
        ...

    async def on_out_of_range(self, place: TopicPartition, position: LogPosition) -> int:
        """Choose where to start when the start offset lies outside the log (expired records, or a topic made anew).

        Returns:
            The offset to start at, in [beginning, end].

        Raises:
            MillraceError: Going on would lose or repeat events silently; the worker ends with this message.
        """
        ...


class CommitBarrier(Protocol):
    """A batch's place in the order of commits."""

    async def wait_previous_committed(self) -> None:
        """Wait until the previous batches of the same partition groups have committed their state.

        Raises:
            AbandonedError: One of them failed before its commit; this batch must not go on.
        """
        ...

    def mark_committed(self) -> None:
        """Let the next batch read: this batch's state is committed."""
        ...


class BatchHandler(Protocol):
    """Scores one batch and publishes its answers."""

    async def handle(self, batch: Sequence[Chunk], barrier: CommitBarrier) -> None:
        """Return when the broker has acknowledged the batch's answers; only then are its offsets committed.

        Chunks of one partition come in offset order and join without a gap. Several calls run at the same time, each for a
        later batch; `barrier` keeps their commits in order. An exception ends the worker, and nothing of this batch or of
        later ones is acknowledged. The exception is a `FencedError`: another worker owns the partitions, so the batch is
        dropped and the worker waits for a new assignment.
        """
        ...
