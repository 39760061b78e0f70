"""The reference store: plain dictionaries with the rules of the Redis store. Replay and tests use it; nothing is persistent."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np

from stream_app.features.columns.event_columns import EntityRows
from stream_app.features.state.blobs import Blobs, Replicas
from stream_app.store.port import (
    Claim,
    CommitResult,
    CommitStatus,
    Erased,
    GroupDump,
    GroupStep,
    Purged,
    Snapshot,
    StateWrite,
    StoreHealth,
)
from stream_app.store.replica_selection import select_replicas

_ANSWERS_KEPT: Final = 1_000  # published payloads of a group


@dataclass
class _Group:
    epoch: str = ""
    epochs_drawn: int = 0
    commit: int = 0
    fronts: dict[str, int] = field(default_factory=dict)
    outbox: dict[int, bytes] = field(default_factory=dict)
    kept: dict[int, bytes] = field(default_factory=dict)
    blobs: dict[str, dict[bytes, bytes]] = field(default_factory=dict)  # by kind

    def drop(self, number: int) -> None:
        """Move a published payload from the outbox to the kept ones."""
        if number in self.outbox:
            self.kept[number] = self.outbox.pop(number)
            if len(self.kept) > _ANSWERS_KEPT:
                del self.kept[next(iter(self.kept))]


class MemoryStore:
    """Store in this process's memory (see `stream_app.store.port.Store`).

    Unlike Redis it has no TTL: an entity's state stays, however long the entity is silent. Training therefore sees a past that
    Redis drops after the kind's TTL without a write.

    Args:
        groups: Number of partition groups.
        shared_kinds: Entity kinds with one replica for each group.
        max_replicas: Most replicas of other groups that a read takes for one entity.
    """

    def __init__(self, groups: int, shared_kinds: frozenset[str], *, max_replicas: int = 32) -> None:
        self._groups = [_Group() for _ in range(groups)]
        self._shared_kinds = shared_kinds
        self._max_replicas = max_replicas
        self._holders: dict[str, dict[bytes, tuple[int, ...]]] = {kind: {} for kind in shared_kinds}
        self._layouts: dict[str, str] = {}
        self._topic_ids: dict[str, str] = {}

    async def claim(self, group: int, owner: str) -> Claim:
        """Draw a new epoch for `group`."""
        state = self._groups[group]
        state.epochs_drawn += 1
        state.epoch = f"{state.epochs_drawn}:{owner}:{secrets.token_hex(8)}"
        return Claim(state.epoch, dict(state.fronts), state.commit, dict(state.outbox))

    async def read(self, rows: Mapping[str, EntityRows]) -> Snapshot:
        """Read the blobs of a batch's entities."""
        own = {kind: self._own_blobs(kind, of_kind) for kind, of_kind in rows.items()}
        others = {kind: self._replicas(kind, of_kind) for kind, of_kind in rows.items() if kind in self._shared_kinds}
        return Snapshot(own, others, {number: group.commit for number, group in enumerate(self._groups)})

    def _own_blobs(self, kind: str, rows: EntityRows) -> Blobs:
        held = [group.blobs.get(kind, {}).get for group in self._groups]
        return Blobs.of([held[group](key) for group, key in zip(rows.groups.tolist(), rows.keys, strict=True)])

    def _replicas(self, kind: str, rows: EntityRows) -> Replicas:
        holders, most = self._holders[kind].get, self._max_replicas
        held = [group.blobs.get(kind, {}) for group in self._groups]
        blobs: list[bytes] = []
        of: list[int] = []
        holders_of, reads_of = [0] * len(rows.keys), [0] * len(rows.keys)
        for row, (group, key) in enumerate(zip(rows.groups.tolist(), rows.keys, strict=True)):
            groups = holders(key, ())
            if groups and groups != (group,):  # most entities occur in one group alone
                chosen, holders_of[row] = select_replicas(groups, group, most)
                reads_of[row] = len(chosen)
                replicas = [held[other][key] for other in chosen if key in held[other]]
                blobs += replicas
                of += [row] * len(replicas)
        return Replicas(Blobs.of(blobs), np.array(of, np.int32), np.array(holders_of, np.int32), np.array(reads_of, np.int32))

    async def commit(self, steps: Sequence[GroupStep]) -> list[CommitResult]:
        """Apply each step whole or not at all."""
        return [self._commit_one(step) for step in steps]

    def _refusal(self, state: _Group, step: GroupStep) -> CommitResult | None:
        if state.epoch != step.epoch:
            lost = _number(state.epoch) < _number(step.epoch)
            status = CommitStatus.BEHIND if lost else CommitStatus.FENCED
            return CommitResult(status, state.commit, f"epoch {state.epoch or 'none'}, step of {step.epoch}")
        fronts = {topic: state.fronts.get(topic, start) for topic, (start, _) in step.ranges.items()}
        if state.commit == step.after and all(fronts[topic] == start for topic, (start, _) in step.ranges.items()):
            return None
        detail = f"commit {state.commit}, step after {step.after}; "
        detail += ", ".join(f"{topic}: front {fronts[topic]}, step {span}" for topic, span in step.ranges.items())
        if state.commit > step.after and all(fronts[topic] >= end for topic, (_, end) in step.ranges.items()):
            return CommitResult(CommitStatus.REPEATED, state.commit, detail)
        return CommitResult(CommitStatus.BEHIND, state.commit, detail)

    def _commit_one(self, step: GroupStep) -> CommitResult:
        state = self._groups[step.group]
        refusal = self._refusal(state, step)
        if refusal is not None:
            return refusal
        state.commit += 1
        state.fronts.update({topic: end for topic, (_, end) in step.ranges.items()})
        for number in step.published:
            if number < state.commit:
                state.drop(number)
        if step.payload:
            state.outbox[state.commit] = step.payload
        for write in step.writes:
            self._write(step.group, write)
        return CommitResult(CommitStatus.APPLIED, state.commit)

    def _write(self, group: int, write: StateWrite) -> None:
        held = self._groups[group].blobs.setdefault(write.kind, {})
        if write.shared:
            holders = self._holders.setdefault(write.kind, {})
            for key in write.keys:
                if key not in held:
                    holders[key] = tuple(sorted({*holders.get(key, ()), group}))
        held.update(zip(write.keys, write.blobs, strict=True))

    async def mark_published(self, group: int, epoch: str, commits: Sequence[int]) -> None:
        """Drop published answers from the outbox; a stale epoch, or a number not drawn yet, changes nothing."""
        state = self._groups[group]
        if state.epoch == epoch and all(number <= state.commit for number in commits):
            for number in commits:
                state.drop(number)

    async def answers(self, group: int, commits: Sequence[int]) -> dict[int, bytes]:
        """Return the payloads of earlier commits that are in the outbox or among the last thousand published ones."""
        state = self._groups[group]
        known = {**state.kept, **state.outbox}
        return {number: known[number] for number in commits if number in known}

    def drop_answers(self, group: int, commit: int) -> None:
        """Drop the answers of a commit, published or not."""
        self._groups[group].outbox.pop(commit, None)
        self._groups[group].kept.pop(commit, None)

    async def layouts(self, known: Mapping[str, str]) -> dict[str, str]:
        """Register layouts; return all registered ones."""
        self._layouts = {**known, **self._layouts}
        return dict(self._layouts)

    async def topic_ids(self, known: Mapping[str, str]) -> dict[str, str]:
        """Register ids of topics; return all registered ones."""
        self._topic_ids = {**known, **self._topic_ids}
        return dict(self._topic_ids)

    async def erase(self, group: int, user_key: bytes) -> Erased:
        """Delete the group's blobs whose key begins with `user_key`."""
        state, counts = self._groups[group], {}
        for kind, held in state.blobs.items():
            gone = [key for key in held if key.startswith(user_key)]
            for key in gone:
                del held[key]
            if gone:
                counts[kind] = len(gone)
        return Erased(counts, state.commit)

    async def purge_answers(self, group: int, cleaned: Callable[[bytes], bytes | None]) -> Purged:
        """Remove a person from the kept payloads; those in the outbox wait."""
        state, count = self._groups[group], 0
        for number, payload in list(state.kept.items()):
            rest = cleaned(payload)
            if rest is None:
                continue
            count += 1
            if rest:
                state.kept[number] = rest
            else:
                del state.kept[number]
        waiting = tuple(number for number, payload in state.outbox.items() if cleaned(payload) is not None)
        return Purged(count, waiting)

    async def dump(self, group: int) -> GroupDump:
        """Read a group's whole state and its position."""
        state = self._groups[group]
        entities = {
            kind: (sorted(held), Blobs.of([held[key] for key in sorted(held)])) for kind, held in state.blobs.items() if held
        }
        return GroupDump(state.commit, dict(state.fronts), entities)

    def begin(
        self, group: int, commit: int, fronts: Mapping[str, int], outbox: Mapping[int, bytes] = MappingProxyType({})
    ) -> None:
        """Set the position and outbox of an empty group; `load` then sets its state."""
        state = self._groups[group]
        state.commit, state.fronts, state.outbox = commit, dict(fronts), dict(outbox)

    def load(self, group: int, kind: str, keys: Sequence[bytes], blobs: Blobs) -> None:
        """Write the blobs of a kind's entities without a step."""
        self._write(group, StateWrite(kind, kind in self._shared_kinds, keys, blobs, 0))

    def waiting(self, group: int) -> Mapping[int, bytes]:
        """Return the group's outbox."""
        return self._groups[group].outbox

    async def health(self) -> StoreHealth:
        """Return zeros: nothing is ever evicted."""
        return StoreHealth()

    def state(self) -> dict[tuple[int, str, bytes], bytes]:
        """Return all blobs by (group, kind, key)."""
        return {
            (number, kind, key): blob
            for number, group in enumerate(self._groups)
            for kind, held in group.blobs.items()
            for key, blob in held.items()
        }

    async def close(self) -> None:
        """Do nothing: there are no connections."""


def _number(epoch: str) -> int:
    head = epoch.partition(":")[0]
    return int(head) if head.isdecimal() else 0
