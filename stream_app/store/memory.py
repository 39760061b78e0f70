"""The reference store: plain dictionaries, the same rules as Redis. Replay and tests use it; nothing survives the process."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stream_app.features.columns import EntityRows
from stream_app.store.port import Claim, CommitResult, CommitStatus, GroupStep, Snapshot

__all__ = ["MemoryStore"]


@dataclass
class _Group:
    epoch: str = ""
    epochs_drawn: int = 0
    commit: int = 0
    fronts: dict[str, int] = field(default_factory=dict)
    outbox: dict[int, bytes] = field(default_factory=dict)
    blobs: dict[tuple[str, bytes], bytes] = field(default_factory=dict)


class MemoryStore:
    """Store in this process's memory (see `stream_app.store.port.Store`)."""

    def __init__(self, groups: int, shared_kinds: frozenset[str]) -> None:
        self._groups = [_Group() for _ in range(groups)]
        self._shared_kinds = shared_kinds
        self._holders: dict[tuple[str, bytes], set[int]] = {}

    async def claim(self, group: int, owner: str) -> Claim:
        """Draw a new epoch for `group`."""
        state = self._groups[group]
        state.epochs_drawn += 1
        state.epoch = f"{state.epochs_drawn}:{owner}:{secrets.token_hex(8)}"
        return Claim(state.epoch, dict(state.fronts), state.commit, dict(state.outbox))

    async def read(self, rows: Mapping[str, EntityRows]) -> Snapshot:
        """Read the blobs of a batch's entities."""
        own: dict[str, list[bytes | None]] = {}
        others: dict[str, list[list[bytes]]] = {}
        for kind, entity_rows in rows.items():
            pairs = list(zip(entity_rows.groups.tolist(), entity_rows.keys, strict=True))
            own[kind] = [self._groups[group].blobs.get((kind, key)) for group, key in pairs]
            if kind in self._shared_kinds:
                others[kind] = [self._replicas_elsewhere(kind, key, group) for group, key in pairs]
        return Snapshot(own, others, {number: group.commit for number, group in enumerate(self._groups)})

    def _replicas_elsewhere(self, kind: str, key: bytes, group: int) -> list[bytes]:
        holders = sorted(self._holders.get((kind, key), ()))
        return [self._groups[other].blobs[kind, key] for other in holders if other != group]

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
                state.outbox.pop(number, None)
        if step.payload:
            state.outbox[state.commit] = step.payload
        for write in step.writes:
            for key, blob in zip(write.keys, write.blobs, strict=True):
                state.blobs[write.kind, key] = blob
                if write.shared:
                    self._holders.setdefault((write.kind, key), set()).add(step.group)
        return CommitResult(CommitStatus.APPLIED, state.commit)

    async def mark_published(self, group: int, epoch: str, commits: Sequence[int]) -> None:
        """Drop published answers from the outbox; a stale epoch, or a number not drawn yet, changes nothing."""
        state = self._groups[group]
        if state.epoch == epoch and all(number <= state.commit for number in commits):
            for number in commits:
                state.outbox.pop(number, None)

    async def close(self) -> None:
        """Nothing to release."""


def _number(epoch: str) -> int:
    head = epoch.partition(":")[0]
    return int(head) if head.isdecimal() else 0
