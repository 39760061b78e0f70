"""What this worker owns and how far it has come: epoch and planned fronts by group, and answers yet to be marked as published.

The ledger is memory only. It plans: batches are cut from what Kafka delivers at the fronts that the batches before will leave, so
that several can be under way. The store decides; where the two disagree, the store is right and the worker starts over from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stream_app.errors import ContractError
from stream_app.store.port import Claim

__all__ = ["Ownership", "OwnershipTracker"]


@dataclass
class Ownership:
    """One claimed group: all under one epoch."""

    group: int
    epoch: str
    fronts: dict[str, int]  # topic -> the offset that the next chunk must start at
    commit: int = 0  # the group's last commit: the claim's, then that of each step applied under this epoch
    published: list[int] = field(default_factory=list)  # commit numbers to drop from the outbox with the next step


class OwnershipTracker:
    """The groups this worker owns. Not thread-safe: one event loop."""

    def __init__(self) -> None:
        self._owned: dict[int, Ownership] = {}

    def record_claim(self, group: int, claim: Claim) -> Ownership:
        """Take note of a claim; what was known of the group is forgotten."""
        ownership = Ownership(group, claim.epoch, dict(claim.fronts), claim.commit)
        self._owned[group] = ownership
        return ownership

    def release(self, groups: Iterable[int]) -> list[Ownership]:
        """Forget groups; returns what was known, so that published answers can still be marked."""
        return [self._owned.pop(group) for group in list(groups) if group in self._owned]

    def owned(self) -> Mapping[int, Ownership]:
        """Group -> ownership."""
        return self._owned

    def advance(self, group: int, topic: str, start: int, end: int) -> tuple[Ownership, int] | None:
        """Move the planned front over [start, end).

        Returns:
            The ownership, and the first offset of the range that is not applied yet; None when there is nothing to do (the group
            is not ours, or all of the range is applied).

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
        """Group -> its last commit: a read that comes later must not see less."""
        return {group: ownership.commit for group, ownership in self._owned.items()}

    def record_applied(self, group: int, epoch: str, commit: int, marked: Sequence[int]) -> None:
        """The store has applied a step as number `commit`, and dropped the numbers `marked` from the outbox."""
        ownership = self._of(group, epoch)
        if ownership is not None:
            ownership.commit = commit
            ownership.published = [number for number in ownership.published if number not in marked]

    def record_published(self, group: int, epoch: str, commit: int) -> None:
        """The broker has acknowledged all answers of a commit."""
        ownership = self._of(group, epoch)
        if ownership is not None:
            ownership.published.append(commit)

    def published_commits(self, group: int, epoch: str) -> tuple[int, ...]:
        """The commit numbers that may leave the outbox with a step of this epoch; kept until such a step is `applied`."""
        ownership = self._of(group, epoch)
        return tuple(ownership.published) if ownership is not None else ()

    def _of(self, group: int, epoch: str) -> Ownership | None:
        # Numbers of an older epoch may have been drawn a second time since.
        ownership = self._owned.get(group)
        return ownership if ownership is not None and ownership.epoch == epoch else None
