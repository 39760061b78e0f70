"""The store's port: state, position and outbox of each partition group, which change together or not at all.

A *partition group* is partition p of every source topic; one worker owns it at a time. For each group the store keeps

- `front` of each topic: all offsets below it are applied;
- `epoch`: the right to write, drawn anew at each claim and never twice: `<how many were drawn>:<owner>:<random token>`;
- `commit`: the number of applied steps;
- the *outbox*: answers that are committed and not yet known to be published, by commit number. Published answers are *kept* for
  a while, so that a duplicate gets the answers of its first delivery;
- a packed blob for each entity of the group: its users, and its own replicas of shared entities (device, ip, ...).

`commit` takes a step from `front = a` to `front = b` only from the current epoch, only after the commit that the batch's read
saw, and only at `a`. So one comparison finds a redelivery, a hole, a zombie's write and a store that lost its last writes,
whatever Kafka, Faust or the worker believe. The commit number is part of it because a step names only the topics of its
records: the front of another topic may have rolled back unseen.

An entity of a shared kind has one replica in each group that saw it; the *holders* index names those groups. A read takes a
bounded number of replicas (`stream_app.store.replica_selection`), always the same ones for the same index, and returns how
many exist.

All implementations pass one contract suite (tests/contract/test_store.py): `MemoryStore`, the reference, and the Redis stores.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stream_app.errors import StoreRolledBackError
from stream_app.features.columns.event_columns import EntityRows
from stream_app.features.state.blobs import Blobs, Replicas


@dataclass(frozen=True, slots=True)
class Claim:
    """The result of claiming a group: the right to write, the group's position, and the answers to publish again."""

    epoch: str
    fronts: Mapping[str, int]  # topic -> offset; nothing is applied for a topic without an entry
    commit: int
    outbox: Mapping[int, bytes]  # commit number -> payload to publish again


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent read for a batch.

    Attributes:
        own: For each entity kind the blobs of the batch's rows, in order; empty where no state exists.
        others: For each shared kind the other groups' replicas of the batch's rows, in the order of `select_replicas`.
        reads: Group -> commit number that the read saw, for all groups.
    """

    own: Mapping[str, Blobs]
    others: Mapping[str, Replicas]
    reads: Mapping[int, int]

    def refuse_rollback(self, confirmed: Mapping[int, int]) -> None:
        """Compare with group -> last commit number that the store had confirmed before the read.

        Raises:
            StoreRolledBackError: The read saw a lower number for some group.
        """
        lost = {group: (self.reads[group], commit) for group, commit in confirmed.items() if self.reads[group] < commit}
        if lost:
            raise StoreRolledBackError(
                f"the store holds fewer commits than it has confirmed (group: found, confirmed): {lost}; it has lost writes or "
                "was restored. The worker starts again from the store's front; Kafka has the rest."
            )


@dataclass(frozen=True, slots=True)
class StateWrite:
    """New blobs of one kind for one group: `keys[i]` gets the non-empty `blobs[i]`, which expires after `ttl_ms`."""

    kind: str
    shared: bool
    keys: Sequence[bytes]
    blobs: Blobs
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class GroupStep:
    """One group's part of a batch, applied whole or not at all.

    Attributes:
        ranges: Topic -> [from, to): the offsets that this step applies.
        payload: The outbox entry of the new commit number; empty for none.
        published: Commit numbers whose answers the broker has acknowledged; they leave the outbox.
        after: The commit number that the step follows: the one that the batch's read saw.
    """

    group: int
    epoch: str
    ranges: Mapping[str, tuple[int, int]]
    payload: bytes
    writes: Sequence[StateWrite]
    published: Sequence[int] = ()
    after: int = 0


class CommitStatus(enum.Enum):
    """The outcome of a step."""

    APPLIED = "applied"
    REPEATED = "repeated"  # all of it was applied before: nothing changed
    FENCED = "fenced"  # another worker owns the group: nothing changed
    BEHIND = "behind"  # the store is behind the step or the claim (a hole, or lost writes): nothing changed


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The outcome of one step; `commit` is the group's commit number afterwards, `detail` names both sides for people."""

    status: CommitStatus
    commit: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """The store's memory and replicas, for an operator; over several servers: sums, and the worst policy.

    Attributes:
        evicted: Keys evicted for lack of memory since the server's start: each was the state of an entity.
        used_bytes: Memory in use.
        limit_bytes: Memory limit; 0 for none.
        policy: maxmemory-policy; all but "noeviction" lose state.
        replicas: Connected replicas (the fewest of any server).
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
        """Whether the server evicts state when its memory is full."""
        return self.limit_bytes > 0 and self.policy != "noeviction"


@dataclass(frozen=True, slots=True)
class Erased:
    """The keys that one pass over a group has deleted, by entity kind; `commit` is the group's commit number afterwards.

    A step that was read before the pass and commits after it writes back the state that it read. So the caller repeats the pass
    until one finds nothing although the group's commit number has grown since, or no batch is in flight.
    """

    keys: Mapping[str, int] = field(default_factory=dict)
    commit: int = 0

    @property
    def total(self) -> int:
        """Number of deleted keys."""
        return sum(self.keys.values())


@dataclass(frozen=True, slots=True)
class GroupDump:
    """One group at one point in time: its position, and for each entity kind the keys, ascending, with their blobs."""

    commit: int
    fronts: Mapping[str, int]
    entities: Mapping[str, tuple[list[bytes], Blobs]]


@dataclass(frozen=True, slots=True)
class Purged:
    """The outcome of a purge of a group's payloads: `cleaned` payloads were rewritten or deleted.

    `waiting` are commit numbers whose payload names the person and is not published yet. They stay, because their answers must be
    published; purge again once the broker has them.
    """

    cleaned: int = 0
    waiting: tuple[int, ...] = ()


class Store(Protocol):
    """State of all groups. One instance for each worker; every method may raise StoreUnavailableError.

    Then nothing was applied, except that the outcome of a commit is unknown until the group is claimed again.
    """

    async def claim(self, group: int, owner: str) -> Claim:
        """Draw a new epoch for `group`; no earlier epoch can write any more.

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

        A stale epoch, or a number that the store has not drawn (it lost the commit), changes nothing.
        """
        ...

    async def answers(self, group: int, commits: Sequence[int]) -> dict[int, bytes]:
        """Return the payloads of earlier commits that are in the outbox or still kept, by commit number."""
        ...

    async def layouts(self, known: Mapping[str, str]) -> dict[str, str]:
        """Register layouts (tag -> description) without replacing any; return all registered layouts."""
        ...

    async def topic_ids(self, known: Mapping[str, str]) -> dict[str, str]:
        """Register Kafka's ids of the source topics (topic -> id) without replacing any; return all registered ids."""
        ...

    async def erase(self, group: int, user_key: bytes) -> Erased:
        """Delete the group's blobs whose key begins with `user_key` (the user, its sessions and so on) in one pass."""
        ...

    async def purge_answers(self, group: int, cleaned: Callable[[bytes], bytes | None]) -> Purged:
        """Remove a person from the group's payloads.

        Args:
            group: The partition group.
            cleaned: Returns a payload without the person (b"" if nothing is left), or None if it does not name the person.
        """
        ...

    async def dump(self, group: int) -> GroupDump:
        """Read a group's whole state and its position at one point in time; not for the hot path."""
        ...

    async def health(self) -> StoreHealth:
        """Read the server's memory and replicas; cheap enough for every few seconds."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
