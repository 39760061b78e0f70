"""The store's port: state, position and outbox of each partition group, moved together or not at all.

A *partition group* is partition p of every source topic; one worker owns it at a time. For each group the store keeps

- `front` per topic: all offsets below it are applied;
- `epoch`: who may write, drawn anew at each claim and never twice: `<how many were drawn>:<owner>:<random token>`;
- `commit`: how many steps have been applied;
- the *outbox*: answers decided and not yet known to be published, by commit number; once published they are *kept* for a while,
  so that an event that a producer sends again gets the answer that it got;
- a packed blob per entity of the group: its users, and its own replicas of shared entities (device, ip, ...).

`commit` takes a step from `front = a` to `front = b` only from the current epoch, only after the commit that the step was read
at, and only at `a`. So a redelivery, a hole, a zombie's write and a store that lost its last writes are seen by one comparison,
whatever Kafka, Faust or the worker believe. The commit number is part of it because a step names only the topics it has records
of: the front of another topic may have stepped back unseen.

An entity of a shared kind is one replica a group; the index of *holders* says which groups have one. A read asks at most so many
of them (`stream_app.store.replica_selection`), always the same ones for the same index, and tells how many there are.

All implementations pass one contract suite (tests/contract/test_store.py): `MemoryStore`, the reference, and those over Redis.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stream_app.features.columns.event_columns import EntityRows
from stream_app.features.state.blobs import Blobs, Replicas

__all__ = [
    "Claim",
    "CommitResult",
    "CommitStatus",
    "Erased",
    "GroupDump",
    "GroupStep",
    "Purged",
    "Snapshot",
    "StateWrite",
    "Store",
    "StoreHealth",
]


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
        own: For each entity kind the blobs of the batch's rows, in order; empty where there is none.
        others: For each shared kind the other groups' replicas of the batch's rows; a row's in the order of `select_replicas`.
        reads: Group -> commit number that the read saw, for every group.
    """

    own: Mapping[str, Blobs]
    others: Mapping[str, Replicas]
    reads: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class StateWrite:
    """New blobs of one kind for one group; `keys[i]` gets `blobs[i]`, which is not empty, and lives for `ttl_ms` from now."""

    kind: str
    shared: bool
    keys: Sequence[bytes]
    blobs: Blobs
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


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """What an operator must know of the store's memory and copies; over several servers: sums, and the worst policy.

    Attributes:
        evicted: Keys that were thrown out for want of memory since the server's start: each was somebody's state.
        used_bytes: Memory in use.
        limit_bytes: Memory that it may use; 0 for no limit.
        policy: What it does at the limit; all but "noeviction" lose state.
        replicas: Copies that follow it now (the fewest of any server).
        evicted_by_server: `evicted` of each server, by address; empty for a store of one server.
    """

    evicted: int = 0
    used_bytes: int = 0
    limit_bytes: int = 0
    policy: str = "noeviction"
    replicas: int = 0
    evicted_by_server: Mapping[str, int] = field(default_factory=dict)

    @property
    def may_evict(self) -> bool:
        """Whether it throws state out when its memory is full."""
        return self.limit_bytes > 0 and self.policy != "noeviction"


@dataclass(frozen=True, slots=True)
class Erased:
    """What one pass over a group has deleted: entity kind -> keys; `commit` is the group's commit number after it.

    A step that was read before the pass and is committed after it brings back what it had read. So a pass is repeated until one
    finds nothing although the group's commit number has grown since, or nothing is under way.
    """

    keys: Mapping[str, int] = field(default_factory=dict)
    commit: int = 0

    @property
    def total(self) -> int:
        """How many keys."""
        return sum(self.keys.values())


@dataclass(frozen=True, slots=True)
class GroupDump:
    """One group at one point in time: its position, and per entity kind the keys, ascending, with their blobs."""

    commit: int
    fronts: Mapping[str, int]
    entities: Mapping[str, tuple[list[bytes], Blobs]]


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge did to a group's payloads: `cleaned` were rewritten or deleted.

    `waiting` are commit numbers whose payload names the person and is not published yet: they are left as they are, for an answer
    is owed; purge again once the broker has them.
    """

    cleaned: int = 0
    waiting: tuple[int, ...] = ()


class Store(Protocol):
    """State of all groups. One instance a worker; every method may raise StoreUnavailableError.

    Nothing is applied then; only of a commit it is unknown, until the group is claimed again.
    """

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

    async def answers(self, group: int, commits: Sequence[int]) -> dict[int, bytes]:
        """Payloads of earlier commits: those in the outbox, and those that are still kept; the others are left out."""
        ...

    async def layouts(self, known: Mapping[str, str]) -> dict[str, str]:
        """Write down what blobs look like (tag -> description), never over another; returns all that the store knows."""
        ...

    async def erase(self, group: int, user_key: bytes) -> Erased:
        """Delete the group's blobs whose key begins with `user_key`: the user's own, its sessions and the like, in one pass."""
        ...

    async def purge_answers(self, group: int, cleaned: Callable[[bytes], bytes | None]) -> Purged:
        """Take a person out of the group's payloads.

        Args:
            group: The partition group.
            cleaned: Gets a payload; returns it without the person (b"" where nothing is left), None where it does not occur.
        """
        ...

    async def dump(self, group: int) -> GroupDump:
        """Read all of a group's state and its position, as they are at one point in time; no hot path."""
        ...

    async def health(self) -> StoreHealth:
        """Ask the server how it fares; cheap enough for every few seconds."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
