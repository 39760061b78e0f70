"""The store's port: state, position and outbox of each partition group, moved together or not at all.

A *partition group* is partition p of every source topic; one worker owns it at a time. For each group the store keeps

- `front` per topic: all offsets below it are applied;
- `epoch`: who may write, drawn anew at each claim and never twice: `<how many were drawn>:<owner>:<random token>`;
- `commit`: how many steps have been applied;
- the *outbox*: answers decided and not yet known to be published, by commit number;
- a packed blob per entity of the group: its users, and its own replicas of shared entities (device, ip, ...).

`commit` takes a step from `front = a` to `front = b` only from the current epoch, only after the commit that the step was read
at, and only at `a`. So a redelivery, a hole, a zombie's write and a store that lost its last writes are seen by one comparison,
whatever Kafka, Faust or the worker believe. The commit number is part of it because a step names only the topics it has records
of: the front of another topic may have stepped back unseen.

Two implementations pass one contract suite (tests/contract/test_store.py): `MemoryStore`, the reference, and `RedisStore`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from stream_app.features.columns import EntityRows

__all__ = ["Claim", "CommitResult", "CommitStatus", "GroupStep", "Snapshot", "StateWrite", "Store"]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker gets when it claims a group: its right to write, where it stands, and what is yet to be published."""

    epoch: str
    fronts: Mapping[str, int]  # topic -> offset; a topic without an entry has nothing applied
    commit: int
    outbox: Mapping[int, bytes]  # commit number -> payload, to be published again


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent read for a batch.

    Attributes:
        own: For each entity kind the blobs of the batch's rows, in order; None where there is none.
        others: For each shared kind and row the other groups' replicas (empty where there are none).
        reads: Group -> commit number that the read saw, for every group.
    """

    own: Mapping[str, Sequence[bytes | None]]
    others: Mapping[str, Sequence[Sequence[bytes]]]
    reads: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class StateWrite:
    """New blobs of one kind for one group; `keys[i]` gets `blobs[i]` and lives for `ttl_ms` from now."""

    kind: str
    shared: bool
    keys: Sequence[bytes]
    blobs: Sequence[bytes]
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class GroupStep:
    """One group's part of a batch, applied whole or not at all.

    Attributes:
        ranges: Topic -> [from, to): the offsets this step applies.
        payload: What goes to the outbox under the new commit number; empty for none.
        published: Commit numbers whose answers the broker has acknowledged; they leave the outbox.
        after: The group's commit number that the step follows: what the batch's read saw.
    """

    group: int
    epoch: str
    ranges: Mapping[str, tuple[int, int]]
    payload: bytes
    writes: Sequence[StateWrite]
    published: Sequence[int] = ()
    after: int = 0


class CommitStatus(enum.Enum):
    """What became of a step."""

    APPLIED = "applied"
    REPEATED = "repeated"  # all of it was applied before: nothing changed
    FENCED = "fenced"  # another worker owns the group: nothing changed
    BEHIND = "behind"  # the store stands before the step or the claim (a hole, or it lost writes): nothing changed


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The outcome of one step; `commit` is the group's commit number after it, `detail` says both sides for people."""

    status: CommitStatus
    commit: int
    detail: str = ""


class Store(Protocol):
    """State of all groups. One instance a worker; every method may raise StoreUnavailableError, nothing applied."""

    async def claim(self, group: int, owner: str) -> Claim:
        """Draw a new epoch for `group`; every earlier epoch can no longer write.

        Raises:
            ContractError: A part of the group's position is missing in the store.
        """
        ...

    async def read(self, rows: Mapping[str, EntityRows]) -> Snapshot:
        """Read the blobs of a batch's entities in one consistent step."""
        ...

    async def commit(self, steps: Sequence[GroupStep]) -> list[CommitResult]:
        """Apply each step whole or not at all; steps of different groups do not depend on each other."""
        ...

    async def mark_published(self, group: int, epoch: str, commits: Sequence[int]) -> None:
        """Drop published answers from the outbox without a step (when the group is idle or handed over).

        A stale epoch, or a number that the store has not drawn yet (it lost the commit), changes nothing.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
