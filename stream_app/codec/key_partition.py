"""The partition of a key, as Java's clients choose it, and whether producers agree on it.

A user's state lives in the group of the partition. If one producer chooses partitions otherwise than the others, a user has two
halves of a history, and nothing else shows it.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

_SAMPLED: Final = 16  # one key in so many is looked at, always the same ones
_MOST_KEYS: Final = 4_096
_SURE: Final = 5.0  # standard deviations


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that Kafka's default partitioner (murmur2) gives to a key."""
    from kafka.partitioner import murmur2

    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


@dataclass(slots=True)
class PartitionerSample:
    """What the keys of a sample of records say about the producers.

    Attributes:
        partitions: Number of partitions of every source topic.
        counts: By (topic, whether the record is in the partition that murmur2 gives to its key).
        split: First and second place, as `topic-partition-offset`, of a user who was seen in two partitions; None if nobody was.
        strange: Place of the newest record in another partition than murmur2's; None if there is none.
    """

    partitions: int
    counts: Counter[tuple[str, bool]] = field(default_factory=Counter)
    split: tuple[str, str] | None = None
    strange: str | None = None
    _seen: dict[bytes, tuple[int, str]] = field(default_factory=dict)  # key -> partition, place

    def add(self, topic: str, partition: int, offset: int, key: bytes | None) -> bool | None:
        """Look at a record; return whether it is in murmur2's partition, None if its key is none of the sample."""
        if key is None or zlib.crc32(key) % _SAMPLED:
            return None
        place, fits = f"{topic}-{partition}-{offset}", partition_of(key, self.partitions) == partition
        self.counts[topic, fits] += 1
        if not fits:
            self.strange = place
        first, where = self._seen.setdefault(key, (partition, place))
        if first != partition:
            self.split = (where, place)
        if len(self._seen) > _MOST_KEYS:
            del self._seen[next(iter(self._seen))]
        return fits

    def fault(self) -> str | None:
        """Return what is wrong, for a person; None where nothing is.

        All records outside of murmur2's partitions are fine: then every producer uses the same other way, and one record in
        `partitions` fits by chance. Fewer strangers than that, and not none, mean producers that differ.
        """
        if self.split is not None:
            return f"a user is in two partitions: records {self.split[0]} and {self.split[1]} have the same key"
        total = self.counts.total()
        fitting = sum(count for (_, fits), count in self.counts.items() if fits)
        chance = total / self.partitions
        if fitting == total or fitting <= chance + _SURE * chance**0.5:
            return None
        return (
            f"{total - fitting} of {total} sampled records are not in the partition of their key by murmur2, the others are; the "
            f"newest is {self.strange}"
        )
