"""The groups that this worker owns: their epochs, their planned fronts, and the commits to mark as published.

The tracker lives in memory only. It cuts batches at the fronts that the batches in flight will leave, so that several batches can
be in flight. The store decides: where the two disagree, the store is right and the worker starts again from its fronts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stream_app.agents.ports import TopicPartition
from stream_app.errors import ContractError
from stream_app.store.port import Claim


@dataclass
class Ownership:
    """One claimed group under its epoch."""

    group: int
    epoch: str
    fronts: dict[str, int]  # topic -> the offset that the next chunk must start at
    commit: int = 0  # the group's last commit number: of its claim, then of each applied step
    published: list[int] = field(default_factory=list)  # commit numbers to drop from the outbox with the next step


class OwnershipTracker:
    """The groups that this worker owns. Not thread-safe: one event loop.

    Args:
        groups: Number of partition groups, the setting `kafka.partitions`.
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups
        self._owned: dict[int, Ownership] = {}

    def refuse_new_partitions(self, assigned: Iterable[TopicPartition]) -> None:
        """Refuse partitions that were added to a topic, before anything is written about their groups.

        Raises:
            ContractError: A partition is not below the number of groups.
        """
        new = [place for place in assigned if place.partition >= self.groups]
        if new:
            raise ContractError(
                f"partitions were added while this worker ran: it was assigned {_names(new)}, but kafka.partitions is "
                f"{self.groups}, and a user's state stays with the partition of the old count. Operator action: stop the "
                "producers and the workers; see 'Add partitions' in docs/runbook.md."
            )

    def refuse_torn_groups(self, assigned: Iterable[TopicPartition], topics: Iterable[str]) -> None:
        """Refuse partition p of one source topic without p of the others: a user's state needs them all.

        Raises:
            ContractError: Another member of the group owns the rest, or nobody does.
        """
        owned = frozenset(assigned)
        rest = {TopicPartition(topic, place.partition) for topic in topics for place in owned} - owned
        if rest:
            raise ContractError(
                f"this worker was assigned {_names(owned)}, but not {_names(rest)}: a user's state needs the same partition of "
                "all source topics. Operator action: see that all source topics exist; stop the program that has joined the "
                "consumer group beside the workers, or give it a group of its own; see the members in the log."
            )

    def record_claim(self, group: int, claim: Claim) -> Ownership:
        """Record a claim; it replaces everything about the group."""
        ownership = Ownership(group, claim.epoch, dict(claim.fronts), claim.commit)
        self._owned[group] = ownership
        return ownership

    def release(self, groups: Iterable[int]) -> list[Ownership]:
        """Remove groups; return their ownership, so that their published answers can still be marked."""
        return [self._owned.pop(group) for group in list(groups) if group in self._owned]

    def owned(self) -> Mapping[int, Ownership]:
        """Return group -> ownership."""
        return self._owned

    def advance(self, group: int, topic: str, start: int, end: int) -> tuple[Ownership, int] | None:
        """Move the planned front over [start, end).

        Returns:
            The ownership, and the first offset of the range that is not applied yet; None if this worker does not own the group
            or the whole range is applied.

        Raises:
            ContractError: The range begins after the front: records between are missing.
        """
        ownership = self._owned.get(group)
        if ownership is None:
            return None
        front = ownership.fronts.get(topic, start)
        if start > front:
            raise ContractError(
                f"{topic}-{group}: the next record to apply is {front}, but {start} came; {start - front} offsets are missing. "
                "Operator action: restart the worker (it starts again from the store's front); if this repeats, report it."
            )
        if end <= front:
            return None
        ownership.fronts[topic] = end
        return ownership, front

    def commits(self) -> dict[int, int]:
        """Return group -> its last commit number: a later read must not see a lower one."""
        return {group: ownership.commit for group, ownership in self._owned.items()}

    def record_applied(self, group: int, epoch: str, commit: int, marked: Sequence[int]) -> None:
        """Record that the store has applied a step as number `commit` and dropped the numbers `marked` from the outbox."""
        ownership = self._of(group, epoch)
        if ownership is not None:
            ownership.commit = commit
            ownership.published = [number for number in ownership.published if number not in marked]

    def record_published(self, group: int, epoch: str, commit: int) -> None:
        """Record that the broker has acknowledged all answers of a commit."""
        ownership = self._of(group, epoch)
        if ownership is not None:
            ownership.published.append(commit)

    def published_commits(self, group: int, epoch: str) -> tuple[int, ...]:
        """Return the commit numbers that may leave the outbox with a step of this epoch; they stay until `record_applied`."""
        ownership = self._of(group, epoch)
        return tuple(ownership.published) if ownership is not None else ()

    def _of(self, group: int, epoch: str) -> Ownership | None:
        # Numbers of an older epoch may have been drawn a second time since.
        ownership = self._owned.get(group)
        return ownership if ownership is not None and ownership.epoch == epoch else None


def _names(places: Iterable[TopicPartition]) -> str:
    return ", ".join(f"{topic}-{partition}" for topic, partition in sorted(places))
