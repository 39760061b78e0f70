"""The store in one Redis server (6.2 or later): one script reads a batch, one script a group commits it.

The layout of the keys is in `redis_scripts`. A commit whose answer was lost with the connection is asked again: the fence answers
`repeated` when the first attempt had been applied, and as only this epoch can have applied it, that counts as applied.
"""

from __future__ import annotations

import asyncio
import math
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import redis.asyncio as redis_asyncio
from redis import exceptions as redis_errors
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from stream_app.errors import ContractError, StoreUnavailableError
from stream_app.features.columns import EntityRows
from stream_app.store import redis_scripts
from stream_app.store.port import Claim, CommitResult, CommitStatus, GroupStep, Snapshot, StateWrite

__all__ = ["RedisStore"]

# A Redis that restarts with an AOF of some hundred MB answers LOADING for seconds; beyond this the worker gives up and restarts.
_PATIENCE_MS: Final = 60_000
# No heartbeat is sent while a worker claims (session: 10 s), so it must know early that it cannot.
_CLAIM_PATIENCE_MS: Final = 4_000
_PAUSE_S: Final = 0.25
_HOLDERS_CACHE: Final = 1_000_000  # (kind, key, group) triples known to be in the index; about 100 bytes each
# A holder's bit is set again when it was last set a day ago, and then lives for the replica's time and two days: so it outlives
# every replica written in between, and goes with the last of them.
_ANNOUNCE_EVERY_S: Final = 86_400.0
_HOLDERS_EXTRA_MS: Final = 2 * 86_400_000
# What passes by itself: a connection that broke, a server that loads its data, a failover under way.
_PASSING: Final = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.BusyLoadingError,
    redis_errors.ReadOnlyError,
    redis_errors.MasterDownError,
    OSError,
)
# Refusals that pass as well, alone or in a script's error: no disk, a long script, too few replicas, a failover, no memory.
_REFUSED: Final = re.compile(r"\b(MISCONF|BUSY|NOREPLICAS|CLUSTERDOWN|OOM)\b")


class RedisStore:
    """Store in Redis (see `stream_app.store.port.Store`).

    Args:
        url: `redis://host:port/database`.
        prefix: First part of every key.
        groups: Number of partition groups.
        shared_kinds: Entity kinds kept as one replica a group.
        timeout_ms: How long one request may take.
        patience_ms: How long a request is tried again before StoreUnavailableError.
        claim_patience_ms: The same for a claim; must stay well below Kafka's session timeout.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str,
        groups: int,
        shared_kinds: frozenset[str],
        timeout_ms: int = 5_000,
        patience_ms: int = _PATIENCE_MS,
        claim_patience_ms: int = _CLAIM_PATIENCE_MS,
    ) -> None:
        self._prefix = prefix
        self._patience_ms = patience_ms
        self._claim_patience_ms = min(claim_patience_ms, patience_ms)
        self._groups = groups
        self._shared_kinds = shared_kinds
        self._counter_keys = [self._key(group, "commit") for group in range(groups)]
        self._known_holders: dict[tuple[str, bytes, int], float] = {}  # when its bit was set, by the loop's clock
        timeout_s = timeout_ms / 1000
        self._redis = redis_asyncio.Redis.from_url(
            url,
            protocol=3,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),  # retries are ours: a commit must know that it is a retry
        )
        self._claim = self._redis.register_script(redis_scripts.CLAIM)
        self._read = self._redis.register_script(redis_scripts.READ)
        self._commit = self._redis.register_script(redis_scripts.COMMIT)
        self._published = self._redis.register_script(redis_scripts.PUBLISHED)

    def _key(self, group: int, rest: str) -> str:
        return f"{self._prefix}:{{g{group}}}:{rest}"

    def _state_key(self, group: int, kind: str, key: bytes) -> str:
        return f"{self._prefix}:{{g{group}}}:{kind}:{key.hex()}"

    async def claim(self, group: int, owner: str) -> Claim:
        """Draw a new epoch for `group`."""
        self._known_holders.clear()  # who starts over may have found a server that lost its last writes
        keys = [self._key(group, "meta"), self._key(group, "commit"), self._key(group, "outbox")]
        token = secrets.token_hex(8)  # one for all tries: a try whose answer was lost must not fence the next
        epoch, meta, commit, outbox = await self._patiently(
            lambda: self._claim(keys=keys, args=[owner, token]), self._claim_patience_ms
        )
        fields = {name.decode(): value for name, value in _pairs(meta).items()}
        if not epoch:
            raise ContractError(
                f"group {group}: {keys[1]} says {commit.decode()} commits, {keys[0]} has the fields {sorted(fields)}: "
                "one of the two keys was deleted or evicted. Operator action: set maxmemory-policy to noeviction, then restore "
                "Redis from a copy, or delete all keys of this redis.prefix to decide everything that Kafka holds anew."
            )
        fronts = {name.removeprefix("front:"): int(value) for name, value in fields.items() if name.startswith("front:")}
        answers = {int(number): payload for number, payload in _pairs(outbox).items()}
        return Claim(epoch.decode(), fronts, int(commit), dict(sorted(answers.items())))

    async def read(self, rows: Mapping[str, EntityRows]) -> Snapshot:
        """Read the blobs of a batch's entities in one script, hence at one point in time."""
        kinds = sorted(rows, key=lambda kind: kind in self._shared_kinds)  # shared ones last, as the script wants them
        own_keys: list[str] = []
        shared: list[tuple[str, int]] = []
        for kind in kinds:
            tails = [f"{kind}:{key.hex()}" for key in rows[kind].keys]
            groups = rows[kind].groups.tolist()
            own_keys.extend(f"{self._prefix}:{{g{group}}}:{tail}" for group, tail in zip(groups, tails, strict=True))
            if kind in self._shared_kinds:
                shared.extend(zip(tails, groups, strict=True))
        request = _pack((self._prefix, own_keys, shared))
        counters, blobs, replicas = await self._patiently(lambda: self._read(keys=self._counter_keys, args=[request]))
        own: dict[str, Sequence[bytes | None]] = {}
        others: dict[str, Sequence[Sequence[bytes]]] = {}
        at = replica_at = 0
        for kind in kinds:
            count = len(rows[kind].keys)
            own[kind] = blobs[at : at + count]
            at += count
            if kind in self._shared_kinds:
                others[kind] = replicas[replica_at : replica_at + count]
                replica_at += count
        return Snapshot(own, others, {group: int(value or 0) for group, value in enumerate(counters)})

    async def commit(self, steps: Sequence[GroupStep]) -> list[CommitResult]:
        """Apply each step in one script call, all of them in one round trip."""
        sent = 0

        async def attempt() -> list[Any]:
            nonlocal sent
            sent += 1
            answers = await self._send(steps)
            if any(isinstance(answer, redis_errors.NoScriptError) for answer in answers):  # the server was restarted
                await self._redis.script_load(self._commit.script)
                sent += 1
                answers = await self._send(steps)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers[len(answers) - len(steps) :]

        results = [_result(answer) for answer in await self._patiently(attempt)]
        if sent > 1:  # only this epoch can have applied it: it was our own first attempt
            results = [
                replace(result, status=CommitStatus.APPLIED, detail="")
                if result.status is CommitStatus.REPEATED and result.commit == step.after + 1
                else result
                for step, result in zip(steps, results, strict=True)
            ]
        self._remember_holders(steps)
        return results

    async def _send(self, steps: Sequence[GroupStep]) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        self._announce_holders(pipe, steps)
        for step in steps:
            keys, args = self._commit_arguments(step)
            pipe.evalsha(self._commit.sha, len(keys), *keys, *args)
        answers: list[Any] = await pipe.execute(raise_on_error=False)
        return answers

    def _commit_arguments(self, step: GroupStep) -> tuple[list[str], list[bytes]]:
        keys = [self._key(step.group, "meta"), self._key(step.group, "commit"), self._key(step.group, "outbox")]
        head = self._key(step.group, "")
        writes = [(f"{head}{write.kind}:", write.ttl_ms, [key.hex() for key in write.keys]) for write in step.writes]
        ranges = [(topic, str(start), str(end)) for topic, (start, end) in step.ranges.items()]
        blobs = [blob for write in step.writes for blob in write.blobs]  # apart: Redis's MessagePack knows no binary type
        return keys, [_pack((step.epoch, ranges, step.published, writes, step.after)), step.payload, *blobs]

    def _announce_holders(self, pipe: Any, steps: Sequence[GroupStep]) -> None:  # noqa: ANN401 - redis-py's pipeline is untyped
        # Before the commit: a bit without a replica costs a read nothing, a replica without its bit would be missed.
        stale = asyncio.get_running_loop().time() - _ANNOUNCE_EVERY_S
        new = [
            (f"{self._prefix}:holders:{write.kind}:{key.hex()}", group, write.ttl_ms + _HOLDERS_EXTRA_MS)
            for write, group in _shared_writes(steps)
            for key in write.keys
            if self._known_holders.get((write.kind, key, group), -math.inf) <= stale
        ]
        if new:
            pipe.eval(redis_scripts.ANNOUNCE, 0, _pack(new))

    def _remember_holders(self, steps: Sequence[GroupStep]) -> None:
        if len(self._known_holders) > _HOLDERS_CACHE:
            self._known_holders.clear()
        now = asyncio.get_running_loop().time()
        for write, group in _shared_writes(steps):
            for key in write.keys:
                known = self._known_holders.get((write.kind, key, group), -math.inf)
                if known <= now - _ANNOUNCE_EVERY_S:
                    self._known_holders[write.kind, key, group] = now

    async def mark_published(self, group: int, epoch: str, commits: Sequence[int]) -> None:
        """Drop published answers from the outbox; a stale epoch, or a number not drawn yet, changes nothing."""
        if commits:
            keys = [self._key(group, "meta"), self._key(group, "outbox"), self._key(group, "commit")]
            await self._patiently(lambda: self._published(keys=keys, args=[epoch, *commits]))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _patiently(self, attempt: Any, patience_ms: int | None = None) -> Any:  # noqa: ANN401 - scripts have no types
        """Run `attempt` until it answers; what passes by itself is given `patience_ms` and not longer."""
        loop = asyncio.get_running_loop()
        patience_ms = self._patience_ms if patience_ms is None else patience_ms
        give_up = loop.time() + patience_ms / 1000
        while True:
            try:
                async with asyncio.timeout_at(give_up):
                    return await attempt()
            except _PASSING as err:
                if loop.time() >= give_up:
                    raise StoreUnavailableError(
                        f"Redis gave no answer for {patience_ms} ms ({_named(err)}); is it running, and is redis.url right?"
                    ) from err
                self._known_holders.clear()  # a server that came back may have lost its last writes
                await asyncio.sleep(_PAUSE_S)
            except redis_errors.RedisError as err:
                if _passes(err):
                    if loop.time() < give_up:
                        await asyncio.sleep(_PAUSE_S)
                        continue
                    raise StoreUnavailableError(
                        f"Redis refused every try for {patience_ms} ms ({_named(err)}); give it what it lacks"
                    ) from err
                raise ContractError(
                    f"Redis refused a command: {err}. Operator action: check the server's version (6.2 or later), "
                    "its memory limit (maxmemory-policy must be noeviction) and this user's rights (ACL)."
                ) from err


def _named(err: Exception) -> str:
    return f"{type(err).__name__}: {err}"  # some say nothing but their class


def _passes(err: redis_errors.RedisError) -> bool:
    # redis-py takes the first word off some messages and makes a class of it.
    return isinstance(err, redis_errors.OutOfMemoryError | redis_errors.ClusterDownError) or bool(_REFUSED.search(str(err)))


def _shared_writes(steps: Sequence[GroupStep]) -> Iterator[tuple[StateWrite, int]]:
    return ((write, step.group) for step in steps for write in step.writes if write.shared)


_pack = msgspec.msgpack.Encoder().encode  # one packed argument: redis-py needs 2 us for each, and an event has three


def _pairs(flat: Any) -> dict[bytes, bytes]:  # noqa: ANN401 - a list in RESP2 and in scripts, a dict elsewhere
    if isinstance(flat, dict):
        return flat
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _result(answer: Sequence[bytes]) -> CommitResult:
    status, commit, detail = answer
    return CommitResult(CommitStatus(status.decode()), int(commit), detail.decode())
