"""The index of holders in a cluster: a worker announces a replica before it writes it, on the shard of the index entry.

On one server index and state lose their last writes together. In a cluster a failover can lose an index entry and keep the
replica on another shard, which no other group would read again. So each group also keeps, beside its state, a short list of
its last announcements: the last 256 steps that announced a replica, far more than a healthy Redis replica lags behind. The
worker repeats these announcements when a node has failed or a slot has moved, and at each claim.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from stream_app.store import redis_layout, redis_scripts
from stream_app.store.announced_replicas import AnnouncedReplicas
from stream_app.store.port import GroupStep
from stream_app.store.redis_cluster_nodes import Call, ClusterNodes, gather_by_node, slot_of

_LAST: Final = 256  # entries of a group's list: about 20 seconds of a busy group, 300 KB
_KEPT_MS: Final = 86_400_000

Entry = tuple[str, int, int, Sequence[bytes]]  # kind, group, ms until the index entry expires, keys


@dataclass(frozen=True, slots=True)
class ClusterAnnouncements:
    """The announcements of some steps. `calls`: by group, the commands to send before its commit."""

    forgotten: int
    calls: Mapping[int, Sequence[Call]]


class ClusterIndex:
    """One worker's writes to the index.

    Args:
        prefix: First part of every key.
        nodes: The cluster.
        home: Group -> address of its node.
    """

    def __init__(self, prefix: str, nodes: ClusterNodes, home: Callable[[int], str]) -> None:
        self._prefix, self._nodes, self._home = prefix, nodes, home
        self._known = AnnouncedReplicas()
        self._forgotten = 0  # number of calls of `forget`
        self._groups: set[int] = set()  # claimed by this worker
        self._due: set[int] = set()  # those whose last announcements may be lost

    def forget(self) -> None:
        """Announce every replica again with its next write."""
        self._forgotten += 1
        self._known.clear()

    def recover(self) -> None:
        """Forget after a failed node or a moved slot, and repeat the last announcements with the next step."""
        self.forget()
        self._due |= self._groups

    async def add_group(self, group: int) -> None:
        """Add a claimed group and repeat its last announcements: its earlier owner may have died together with a node."""
        self._groups.add(group)
        await self._repeat({group})

    async def announce(self, steps: Sequence[GroupStep]) -> ClusterAnnouncements:
        """Set the index bits of the replicas that the steps write for the first time.

        Before the commit: a bit without a replica costs a read nothing, a replica without its bit would be missed.
        """
        forgotten, due = self._forgotten, set(self._due)
        if due:
            await self._repeat(due)
            if forgotten == self._forgotten:
                self._due -= due
        new = self._known.missing(steps)
        await self._set(new)
        lists: dict[int, list[tuple[str, int, Sequence[bytes]]]] = defaultdict(list)
        for kind, group, ttl_ms, keys in new:
            lists[group].append((kind, ttl_ms, keys))
        return ClusterAnnouncements(forgotten, {group: self._note(group, entries) for group, entries in lists.items()})

    def add(self, steps: Sequence[GroupStep], announced: ClusterAnnouncements) -> None:
        """Record the announcements of committed steps, unless a node has failed since."""
        if announced.forgotten == self._forgotten:
            self._known.add(steps)

    def _list(self, group: int) -> str:
        return f"{redis_layout.group_head(self._prefix, group)}announced"

    def _note(self, group: int, entries: Sequence[tuple[str, int, Sequence[bytes]]]) -> list[Call]:
        key = self._list(group)
        return [
            ("", ("RPUSH", key, redis_layout.pack(entries))),
            ("", ("LTRIM", key, -_LAST, -1)),
            ("", ("PEXPIRE", key, _KEPT_MS)),
        ]

    async def _repeat(self, groups: Iterable[int]) -> None:
        at: dict[str, list[int]] = defaultdict(list)
        for group in groups:
            at[self._home(group)].append(group)
        lists = await gather_by_node(
            {
                node: self._nodes.run(node, [("", ("LRANGE", self._list(group), 0, -1)) for group in there])
                for node, there in at.items()
            }
        )
        await self._set(
            (kind, group, ttl_ms, keys)
            for node, there in at.items()
            for group, notes in zip(there, lists[node], strict=True)
            for note in notes
            for kind, ttl_ms, keys in msgspec.msgpack.decode(note)
        )

    async def _set(self, entries: Iterable[Entry]) -> None:
        new: dict[str, list[Entry]] = defaultdict(list)
        for kind, group, ttl_ms, keys in entries:
            by_node: dict[str, list[bytes]] = defaultdict(list)
            head = redis_layout.holders_head(self._prefix, kind)
            for key in keys:
                by_node[self._nodes.node_of(slot_of(head + key.hex()))].append(key)
            for node, there in by_node.items():
                new[node].append((kind, group, ttl_ms, there))
        calls: dict[str, Call] = {
            node: (redis_scripts.ANNOUNCE, (0, *redis_layout.announce_call(self._prefix, there))) for node, there in new.items()
        }
        await gather_by_node({node: self._nodes.run_durably(node, [call]) for node, call in calls.items()})
