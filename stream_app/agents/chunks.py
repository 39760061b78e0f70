"""A chunk: the unit in which records travel from the fetcher to a batch.

It covers the half-open offset range [start, end) of one partition. Transaction markers, aborted records and compacted
holes belong to the range though no record shows them, so consecutive chunks of one assignment always join without a
gap: the end of one is the start of the next. That is what lets a front (one number per partition) stand in place of a
set of acknowledged offsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import ConsumerRecord

__all__ = ["Chunk"]


@dataclass(slots=True, frozen=True, eq=False)
class Chunk:
    """Consecutive records of one partition, as one assignment fetched them.

    Attributes:
        topic: Source topic.
        partition: Partition of that topic.
        start: First offset covered.
        end: First offset no longer covered; end > start.
        generation: Number of the assignment it was fetched under, as `AssignmentHooks.on_assigned` got it.
        records: Ascending by offset, all inside [start, end); may be empty (only markers or holes).
        more: Whether further chunks of the same fetch follow at once: a batch may wait for them.
        highwater: End of the partition's log when fetched, -1 if not known; highwater - end is what still waits.
    """

    topic: str
    partition: int
    start: int
    end: int
    generation: int
    records: Sequence[ConsumerRecord[bytes | None, bytes | None]]
    more: bool = False
    highwater: int = -1

    def __len__(self) -> int:
        """Number of records."""
        return len(self.records)

    def __bool__(self) -> bool:
        """Always true: a chunk without records still moves the front."""
        return True

    def __repr__(self) -> str:
        """Name the place, not the records."""
        place = f"{self.topic}-{self.partition} [{self.start}, {self.end})"
        return f"<Chunk {place} of {len(self.records)} records, assignment {self.generation}>"
