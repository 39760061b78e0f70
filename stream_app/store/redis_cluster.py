"""The store in a Redis Cluster (6.2 or later): one command for each group reads, one script for each group commits.

Keys, fence and commit script are those of one server (`redis_scripts`): all keys of a group have its hash tag, so they are on one
shard, and a commit is one script there, whole or not at all. The differences:

- A read has two rounds: from every node the index of holders and the commit numbers; then for every group of the batch its own
  blobs, the replicas that other groups' rows read, and its commit number, in one MGET. So a group's part is read at one commit of
  that group, which `Snapshot.reads` names, and no replica of that commit is missing; two groups' parts are not read at one
  moment.
- The index of holders has no hash tag and lies on all shards. A commit announces new replicas before it writes them
  (`redis_cluster_index`).
- Requests to one node go in one pipeline on one connection; nodes are asked in parallel. A repeated request goes only to the
  nodes that refused it.
- While a slot moves to another node, a script could find some keys missing and stop half-way. So each script first reads a key
  that never exists: a node that is giving the slot away refuses that before anything is written.

docs/redis-cluster.md says what a failover can lose, and how `wait_replicas` bounds it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final, TypeVar

import numpy as np
from redis.crc import key_slot

from stream_app.features.columns.event_columns import EntityRows
from stream_app.store import redis_dump, redis_erase, redis_layout, redis_scripts
from stream_app.store.port import Claim, CommitResult, Erased, GroupDump, GroupStep, Purged, Snapshot, StoreHealth
from stream_app.store.read_plan import ReadPlan
from stream_app.store.redis_cluster_index import ClusterAnnouncements, ClusterIndex
from stream_app.store.redis_cluster_nodes import Call, ClusterNodes, gather_by_node, slot_of
from stream_app.store.redis_retry import with_retries
from stream_app.store.redis_store import RedisOptions, resolve_repeated, warn_of_eviction

T = TypeVar("T")

# First line of each script of a group: a node that is giving the group's slot away refuses it before anything is written.
_WHOLE: Final = "redis.call('EXISTS', KEYS[1] .. ':never')\n"
_CLAIM: Final = _WHOLE + redis_scripts.CLAIM
_COMMIT: Final = _WHOLE + redis_scripts.COMMIT
_PUBLISHED: Final = _WHOLE + redis_scripts.PUBLISHED

# ARGV: MessagePack of keys, of any slots of this node. Returns their values.
_VALUES: Final = """
local keys, values = cmsgpack.unpack(ARGV[1]), {}
for i = 1, #keys do values[i] = redis.call('GET', keys[i]) end
return values
"""


class RedisClusterStore:
    """Store in a Redis Cluster (see `stream_app.store.port.Store`).

    Args:
        url: `redis://host:port[,host:port ...]`: some of its nodes; they name the others.
        prefix: First part of every key.
        groups: Number of partition groups.
        shared_kinds: Entity kinds with one replica for each group.
        options: Time limits, numbers of replicas; `wait_replicas` counts the Redis replicas of each shard.

    Raises:
        ConfigError: The URL names no host, or a database.
    """

    def __init__(
        self, url: str, *, prefix: str, groups: int, shared_kinds: frozenset[str], options: RedisOptions | None = None
    ) -> None:
        self._prefix = prefix
        self._groups = groups
        self._shared_kinds = shared_kinds
        self._options = options = options or RedisOptions()
        self._warned = False
        self._counters = [self._key(group, "commit") for group in range(groups)]
        self._seen: Mapping[int, int] = {}  # the commit numbers of the last read and of our own commits since
        self._slots = [key_slot(redis_layout.group_head(prefix, group).encode()) for group in range(groups)]
        self._nodes = ClusterNodes(
            url,
            timeout_s=options.request_s,
            scripts=[_CLAIM, _COMMIT, _PUBLISHED, _VALUES, redis_scripts.ANNOUNCE, redis_scripts.REGISTER],
            changed=self._moved,
            copies=(options.wait_replicas, options.wait_ms),
        )
        self._index = ClusterIndex(prefix, self._nodes, self._home)
        self._own_layouts: Mapping[str, str] = {}
        self._layouts_due = False

    def _key(self, group: int, rest: str) -> str:
        return redis_layout.group_head(self._prefix, group) + rest

    async def claim(self, group: int, owner: str) -> Claim:
        """Draw a new epoch for `group`; `wait_replicas` Redis replicas have its outbox, so it may be published."""
        self._index.forget()  # after a restart the cluster may have lost its last writes
        keys, args = redis_layout.claim_call(self._prefix, group, owner)
        call: Call = (_CLAIM, (len(keys), *keys, *args))

        async def attempt() -> Any:  # noqa: ANN401 - a script's answer
            reply = (await self._nodes.run_durably(self._home(group), [call], self._key(group, "waited")))[0]
            await self._index.add_group(group)
            return reply

        reply = await self._with_retries(attempt, self._options.assignment_ms)
        if not self._warned:
            self._warned = True
            warn_of_eviction(await self._with_retries(self._ask_health, self._options.assignment_ms))
        return redis_layout.parse_claim(self._prefix, group, reply)

    # --- reads -----------------------------------------------------------------------------------------------------------

    async def read(self, rows: Mapping[str, EntityRows]) -> Snapshot:
        """Read the blobs of a batch's entities, each group's at one commit of that group.

        The index of holders is read before the blobs, and again after them if another worker has written any group since the last
        read: if a holder has been added in between, the read is repeated.
        """
        plan = ReadPlan(self._prefix, self._groups, self._shared_kinds, rows)
        return await self._with_retries(lambda: self._read(plan))

    async def _read(self, plan: ReadPlan) -> Snapshot:
        expected = dict(self._seen)
        index = [(name, slot_of(name)) for name in plan.index]
        values = await self._values([*index, *zip(self._counters, self._slots, strict=True)])
        bitmaps, counters = values[: len(index)], values[len(index) :]
        while True:
            choice = plan.choose_replicas(bitmaps, self._options.max_replicas)
            by_group = await self._blobs(choice.group.tolist(), plan.names(choice))
            reads = {group: int(number or 0) for group, number in enumerate(counters)}
            reads.update({group: int(of_group[0] or 0) for group, of_group in by_group.items()})
            again = bitmaps if reads == expected else await self._values(index)
            if again == bitmaps:
                break
            bitmaps = again
        self._seen = reads
        return plan.snapshot(choice, [blob for of_group in by_group.values() for blob in of_group[1:]], dict(reads))

    async def _values(self, keys: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """Return the values of keys, given with their slots, in order."""
        places: dict[str, list[int]] = defaultdict(list)
        for at, (_, slot) in enumerate(keys):
            places[self._nodes.node_of(slot)].append(at)
        calls: dict[str, Call] = {
            node: (_VALUES, (0, redis_layout.pack([keys[at][0] for at in ats]))) for node, ats in places.items()
        }
        answers = await gather_by_node({node: self._nodes.run(node, [call]) for node, call in calls.items()})
        values: list[bytes | None] = [None] * len(keys)
        for node, ats in places.items():
            for at, value in zip(ats, answers[node][0], strict=True):
                values[at] = value
        return values

    async def _blobs(self, groups: Sequence[int], names: Sequence[str]) -> dict[int, list[bytes | None]]:
        """Return group -> commit number and values, one command a group; `groups[i]`, ascending, is the group of `names[i]`."""
        bounds = [*np.flatnonzero(np.diff(groups, prepend=-1)).tolist(), len(groups)]
        homes: dict[str, list[int]] = defaultdict(list)
        calls: dict[int, Call] = {}
        for first, last in pairwise(bounds):
            group = groups[first]
            homes[self._home(group)].append(group)
            calls[group] = ("", ("MGET", self._counters[group], *names[first:last]))
        answers = await gather_by_node(
            {node: self._nodes.run(node, [calls[group] for group in there]) for node, there in homes.items()}
        )
        values = {group: answer for node, there in homes.items() for group, answer in zip(there, answers[node], strict=True)}
        return dict(sorted(values.items()))

    # --- commits ---------------------------------------------------------------------------------------------------------

    async def commit(self, steps: Sequence[GroupStep]) -> list[CommitResult]:
        """Apply each step in one script call; the steps of one node take one round trip."""
        results: dict[int, CommitResult] = {}
        sent: set[int] = set()

        async def attempt() -> ClusterAnnouncements:
            if self._layouts_due:
                await self._write_layouts(self._own_layouts)
            announced = await self._index.announce(steps)  # also of applied steps, if the announcements were forgotten since
            homes: dict[str, list[int]] = defaultdict(list)
            for number, step in enumerate(steps):
                if number not in results:
                    homes[self._home(step.group)].append(number)

            async def at(node: str, numbers: list[int]) -> None:
                again = sent.intersection(numbers)
                sent.update(numbers)
                answers = await self._commit_at(node, [steps[number] for number in numbers], announced)
                for number, result in zip(numbers, answers, strict=True):
                    results[number] = resolve_repeated([steps[number]], [result])[0] if number in again else result

            await gather_by_node({node: at(node, numbers) for node, numbers in homes.items()})
            return announced

        self._index.add(steps, await self._with_retries(attempt))
        self._seen = {**self._seen, **{step.group: results[number].commit for number, step in enumerate(steps)}}
        return [results[number] for number in range(len(steps))]

    async def _commit_at(self, node: str, steps: Sequence[GroupStep], announced: ClusterAnnouncements) -> list[CommitResult]:
        calls: list[Call] = []
        for step in steps:
            keys, args = redis_layout.commit_call(self._prefix, step, self._options.answers_kept_ms)
            calls += [*announced.calls.get(step.group, ()), (_COMMIT, (len(keys), *keys, *args))]
        answers = await self._nodes.run_durably(node, calls, self._key(steps[0].group, "waited"))
        return [redis_layout.parse_result(answer) for call, answer in zip(calls, answers, strict=True) if call[0]]

    async def mark_published(self, group: int, epoch: str, commits: Sequence[int]) -> None:
        """Drop published answers from the outbox; a stale epoch, or a number not drawn yet, changes nothing."""
        if commits:
            keys, args = redis_layout.published_call(self._prefix, group, epoch, commits, self._options.answers_kept_ms)
            await self._with_retries(lambda: self._nodes.run(self._home(group), [(_PUBLISHED, (len(keys), *keys, *args))]))

    # --- answers, layouts, administration -------------------------------------------------------------------------------------

    async def answers(self, group: int, commits: Sequence[int]) -> dict[int, bytes]:
        """Return the payloads of earlier commits that are in the outbox or still kept."""
        if not commits:
            return {}
        payloads = await self._command(group, "MGET", *[self._key(group, f"answers:{number}") for number in commits])
        return {number: payload for number, payload in zip(commits, payloads, strict=True) if payload is not None}

    async def layouts(self, known: Mapping[str, str]) -> dict[str, str]:
        """Register layouts without replacing any; return all registered layouts."""
        self._own_layouts = dict(known)
        reply = await self._with_retries(lambda: self._write_layouts(known), self._options.assignment_ms)
        return redis_layout.parse_texts(reply)

    async def topic_ids(self, known: Mapping[str, str]) -> dict[str, str]:
        """Register ids of topics without replacing any; return all registered ids."""
        reply = await self._with_retries(lambda: self._register("topics", known), self._options.assignment_ms)
        return redis_layout.parse_texts(reply)

    async def _write_layouts(self, known: Mapping[str, str]) -> Any:  # noqa: ANN401 - a script's answer
        reply = await self._register("layouts", known)
        self._layouts_due = False
        return reply

    async def _register(self, name: str, known: Mapping[str, str]) -> Any:  # noqa: ANN401 - a script's answer
        key = f"{self._prefix}:{name}"
        call: Call = (redis_scripts.REGISTER, (1, key, *itertools.chain.from_iterable(known.items())))
        [reply] = await self._nodes.run(self._nodes.node_of(key_slot(key.encode())), [call])
        return reply

    async def erase(self, group: int, user_key: bytes) -> Erased:
        """Delete the group's blobs whose key begins with `user_key`, in one pass over the group's node."""
        counts: dict[str, int] = defaultdict(int)
        while True:
            version = self._nodes.version
            erased = await redis_erase.erase(partial(self._command, group), self._prefix, group, user_key)
            for kind, count in erased.keys.items():
                counts[kind] += count
            if self._nodes.version == version:  # else the scan went on at another node, where its cursor means nothing
                return Erased(dict(counts), erased.commit)

    async def purge_answers(self, group: int, cleaned: Callable[[bytes], bytes | None]) -> Purged:
        """Remove a person from the group's kept payloads; those in the outbox wait."""
        count = 0
        while True:
            version = self._nodes.version
            purged = await redis_erase.purge_answers(partial(self._command, group), self._prefix, group, cleaned)
            count += purged.cleaned
            if self._nodes.version == version:
                return Purged(count, purged.waiting)

    async def dump(self, group: int) -> GroupDump:
        """Read a group's whole state and its position; the group's node does nothing else meanwhile."""
        return await redis_dump.dump(partial(self._command, group), self._prefix, group)

    async def health(self) -> StoreHealth:
        """Read memory and replicas of all primaries."""
        return await self._with_retries(self._ask_health)

    async def _ask_health(self) -> StoreHealth:
        infos = await gather_by_node({node: self._nodes.command(node, "INFO") for node in self._nodes.primaries})
        each = [redis_layout.parse_health(info) for info in infos.values()]
        worst = next((one for one in each if one.may_evict), each[0])
        return StoreHealth(
            evicted=sum(one.evicted for one in each),
            used_bytes=sum(one.used_bytes for one in each),
            limit_bytes=sum(one.limit_bytes for one in each),
            policy=worst.policy,
            replicas=min(one.replicas for one in each),
            evicted_by_server={node: one.evicted for node, one in zip(infos, each, strict=True)},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._nodes.close()

    def _home(self, group: int) -> str:
        return self._nodes.node_of(self._slots[group])

    async def _command(self, group: int, *arguments: Any) -> Any:  # noqa: ANN401 - a command's answer
        return await self._with_retries(lambda: self._nodes.command(self._home(group), *arguments))

    async def _with_retries(self, attempt: Callable[[], Awaitable[T]], patience_ms: int | None = None) -> T:
        async def with_map() -> T:
            await self._nodes.refresh()
            return await attempt()

        return await with_retries(with_map, self._options.patience_ms if patience_ms is None else patience_ms, self._lost)

    async def _lost(self) -> None:
        self._nodes.invalidate()
        self._moved()

    def _moved(self) -> None:
        # A Redis replica that took over may lack the last writes to keys of no group: index entries, layouts.
        self._index.recover()
        self._layouts_due = bool(self._own_layouts)
