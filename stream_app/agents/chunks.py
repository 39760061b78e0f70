"""A chunk: the unit in which records travel from the fetcher to a batch.

It covers the half-open offset range [start, end) of one partition. Transaction markers, aborted records and compacted
holes belong to the range though no record shows them, so consecutive chunks of one assignment always join without a
gap: the end of one is the start of the next. That is what lets a front (one number per partition) stand in place of a
set of acknowledged offsets.

What bounds memory counts in *weight*: one for a record, but at least one for each 4 KiB of keys and values. Events are far
smaller, so a limit of 512 means 512 events; of records of 1 MB it means two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import ConsumerRecord

__all__ = ["WEIGHT_BYTES", "Chunk", "measure"]

WEIGHT_BYTES: Final = 4096  # so many bytes weigh as much as a record


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
        size_bytes: Of all keys and values.
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
        """What it counts against the limits of batch and buffer; 0 without records."""
        return max(len(self.records), self.size_bytes // WEIGHT_BYTES)

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


def measure(records: Sequence[ConsumerRecord[bytes | None, bytes | None]], most: int) -> tuple[int, int]:
    """How many of these make a chunk of at most the weight `most`, and their bytes. At least one, whatever it weighs."""
    count = min(len(records), most)
    size = 0
    for number in range(count):
        record = records[number]
        grown = size + record.serialized_key_size + record.serialized_value_size
        if grown > most * WEIGHT_BYTES and number:
            return number, size
        size = grown
    return count, size
