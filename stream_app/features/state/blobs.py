"""Many blobs end to end, for the store and the compiled loops: no Python object per blob."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Blobs:
    """N blobs: number i is `data[ends[i - 1] : ends[i]]`; an empty blob means no state. ends (N,) int64."""

    data: bytes
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, blobs: Sequence[bytes | None]) -> Blobs:
        """Join single blobs."""
        filled = [blob or b"" for blob in blobs]
        return cls(b"".join(filled), np.cumsum(np.array([len(blob) for blob in filled], np.int64), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> bytes:
        return self.data[int(self.ends[number - 1]) if number else 0 : int(self.ends[number])]

    def __iter__(self) -> Iterator[bytes]:
        start = 0
        for end in self.ends.tolist():
            yield self.data[start:end]
            start = end

    def part(self, first: int, last: int) -> Blobs:
        """Return blobs [first, last)."""
        start = int(self.ends[first - 1]) if first else 0
        ends = self.ends[first:last]
        return Blobs(self.data[start : int(ends[-1]) if len(ends) else start], ends - start)


@dataclass(frozen=True, slots=True)
class Replicas:
    """Other partition groups' replicas of N entities.

    blobs: R replicas. of (R,) int32, ascending: the entity of each. held (N,) int32: how many other groups are known to hold a
    replica; asked (N,) int32: how many of those were read, at most a bound. Where held > asked, sums are scaled up.
    """

    blobs: Blobs
    of: NDArray[np.int32]
    held: NDArray[np.int32]
    asked: NDArray[np.int32]

    @classmethod
    def of_lists(cls, replicas: Sequence[Sequence[bytes]]) -> Replicas:
        """Join lists of replicas, one list per entity; all were read."""
        counts = np.array([len(of_one) for of_one in replicas], np.int32)
        of = np.repeat(np.arange(len(replicas), dtype=np.int32), counts)
        return cls(Blobs.of([blob for of_one in replicas for blob in of_one]), of, counts, counts)
