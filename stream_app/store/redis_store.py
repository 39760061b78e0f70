"""The store in one Redis server (6.2 or later): one command reads a batch, one script for each group commits it.

`redis_scripts` describes the keys, `redis_layout` packs the requests. A commit whose answer was lost with the connection is
sent again. The fence answers `repeated` if the first attempt was applied; only this epoch can have applied it, so it counts
as applied.

With `wait_replicas` a commit counts, like a claim, only when so many Redis replicas have it; nothing of it is published before.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import redis.asyncio as redis_asyncio
from redis import exceptions as redis_errors
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from stream_app.features.columns.event_columns import EntityRows
from stream_app.store import redis_dump, redis_erase, redis_layout, redis_scripts
from stream_app.store.announced_replicas import AnnouncedReplicas
from stream_app.store.port import (
    Claim,
    CommitResult,
    CommitStatus,
    Erased,
    GroupDump,
    GroupStep,
    Purged,
    Snapshot,
    StoreHealth,
)
from stream_app.store.read_plan import ReadPlan
from stream_app.store.redis_pipeline import Command, exchange
from stream_app.store.redis_retry import with_retries, wrong_option

T = TypeVar("T")
log = logging.getLogger(__name__)

_WAITED_MS: Final = 60_000  # TTL of the key that WAIT waits for; nothing reads it


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """Options of the Redis stores.

    Attributes:
        timeout_ms: Limit of one request.
        patience_ms: How long a request is repeated before StoreUnavailableError. A Redis that restarts with an append-only
            file of some hundred MB answers LOADING for seconds; beyond this limit the worker gives up and restarts.
        claim_patience_ms: The same for a claim and for the layouts before it. A worker sends no heartbeat while it claims
            (session: 10 s), so a claim must fail early.
        max_replicas: Most replicas of other groups that a read takes for one entity.
        answers_kept_ms: How long published answers are kept; 0: not at all.
        wait_replicas: Number of Redis replicas that must have a commit before it counts; 0: none.
        wait_ms: How long these replicas may take.
    """

    timeout_ms: int = 5_000
    patience_ms: int = 60_000
    claim_patience_ms: int = 4_000
    max_replicas: int = 32
    answers_kept_ms: int = 120_000
    wait_replicas: int = 0
    wait_ms: int = 1_000

    @property
    def request_s(self) -> float:
        """Limit of one request in seconds, with the wait for Redis replicas."""
        return (self.timeout_ms + (self.wait_ms if self.wait_replicas else 0)) / 1000

    @property
    def assignment_ms(self) -> int:
        """How long the requests of an assignment (layouts, claim) are repeated."""
        return min(self.claim_patience_ms, self.patience_ms)


class RedisStore:
    """Store in Redis (see `stream_app.store.port.Store`).

    Args:
        url: `redis://host:port/database`.
        prefix: First part of every key.
        groups: Number of partition groups.
        shared_kinds: Entity kinds with one replica for each group.
        options: Time limits, numbers of replicas.
    """

    def __init__(
        self, url: str, *, prefix: str, groups: int, shared_kinds: frozenset[str], options: RedisOptions | None = None
    ) -> None:
        self._prefix = prefix
        self._groups = groups
        self._shared_kinds = shared_kinds
        self._options = options = options or RedisOptions()
        self._counters = [self._key(group, "commit") for group in range(groups)]
        self._announced = AnnouncedReplicas()
        self._warned = False
        try:
            self._redis = redis_asyncio.Redis.from_url(
                url,
                protocol=3,
                socket_timeout=options.request_s,
                socket_connect_timeout=options.request_s,
                retry=Retry(NoBackoff(), 0),  # we retry ourselves: a commit must know that it is a retry
            )
            pool: Any = self._redis.connection_pool  # untyped
            pool.make_connection()  # does not connect, but refuses unknown options of the URL
        except (ValueError, TypeError) as err:
            raise wrong_option(err) from err
        self._commit = self._redis.register_script(redis_scripts.COMMIT)
        self._published = self._redis.register_script(redis_scripts.PUBLISHED)
        self._register = self._redis.register_script(redis_scripts.REGISTER)

    def _key(self, group: int, rest: str) -> str:
        return redis_layout.group_head(self._prefix, group) + rest

    async def claim(self, group: int, owner: str) -> Claim:
        """Draw a new epoch for `group`; `wait_replicas` Redis replicas have its outbox, so it may be published."""
        self._announced.clear()  # after a restart the server may have lost its last writes
        keys, args = redis_layout.claim_call(self._prefix, group, owner)

        async def attempt() -> Any:  # noqa: ANN401 - a script's answer
            [answer] = await self._durably([("EVAL", redis_scripts.CLAIM, len(keys), *keys, *args)])
            return answer

        reply = await self._with_retries(attempt, self._options.assignment_ms)
        if not self._warned:
            self._warned = True
            warn_of_eviction(await self._health(self._options.assignment_ms))
        return redis_layout.parse_claim(self._prefix, group, reply)

    async def read(self, rows: Mapping[str, EntityRows]) -> Snapshot:
        """Read the blobs of a batch's entities in one command, hence at one point in time.

        The index of holders is read before, and again with the blobs: if a holder has been added in between, the read is
        repeated.
        """
        plan = ReadPlan(self._prefix, self._groups, self._shared_kinds, rows)
        index = await self._mget(plan.index)
        while True:
            bitmaps = index
            choice = plan.choose_replicas(bitmaps, self._options.max_replicas)
            values = await self._mget([*self._counters, *plan.index, *plan.names(choice)])
            index = values[self._groups : self._groups + len(bitmaps)]
            if index == bitmaps:
                break
        reads = {group: int(value or 0) for group, value in enumerate(values[: self._groups])}
        return plan.snapshot(choice, values[self._groups + len(bitmaps) :], reads)

    async def _mget(self, names: Sequence[str]) -> list[bytes | None]:
        if not names:
            return []

        async def attempt() -> list[bytes | None]:
            [values] = _raise_refusal(await exchange(self._redis, [("MGET", *names)]))
            return list(values)

        return await self._with_retries(attempt)

    async def commit(self, steps: Sequence[GroupStep]) -> list[CommitResult]:
        """Apply each step in one script call, all of them in one round trip."""
        sent = 0

        async def attempt() -> list[Any]:
            nonlocal sent
            sent += 1
            try:
                return await self._send(steps)
            except redis_errors.NoScriptError:  # the server was restarted, or somebody flushed its scripts
                await self._redis.script_load(self._commit.script)
                sent += 1
                return await self._send(steps)

        answers = await self._with_retries(attempt)
        results = [redis_layout.parse_result(answer) for answer in answers[len(answers) - len(steps) :]]
        self._announced.add(steps)
        return resolve_repeated(steps, results) if sent > 1 else results

    async def _send(self, steps: Sequence[GroupStep]) -> list[Any]:
        commands: list[Command] = []
        # Before the commit: a bit without a replica costs a read nothing, a replica without its bit would be missed.
        new = self._announced.missing(steps)
        if new:
            commands.append(("EVAL", redis_scripts.ANNOUNCE, 0, *redis_layout.announce_call(self._prefix, new)))
        for step in steps:
            keys, args = redis_layout.commit_call(self._prefix, step, self._options.answers_kept_ms)
            commands.append(("EVALSHA", self._commit.sha, len(keys), *keys, *args))
        return await self._durably(commands)

    async def _durably(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands on one connection; with `wait_replicas`, return only when so many Redis replicas have their writes.

        Raises:
            RedisError: The first refusal; NOREPLICAS if too few replicas answered in time.
        """
        replicas, wait_ms = self._options.wait_replicas, self._options.wait_ms
        if not replicas or not commands:
            return _raise_refusal(await exchange(self._redis, commands))
        # WAIT is about the last write of its own connection, and a step that an earlier attempt has applied writes nothing now.
        mark: Command = ("SET", f"{self._prefix}:waited", "", "PX", _WAITED_MS)
        answers = _raise_refusal(await exchange(self._redis, [*commands, mark, ("WAIT", replicas, wait_ms)]))
        if answers[-1] < replicas:
            raise redis_errors.ResponseError(
                f"NOREPLICAS {answers[-1]} copies of Redis had the batch after {wait_ms} ms, redis.wait_replicas wants {replicas}"
            )
        return answers[: len(commands)]

    async def mark_published(self, group: int, epoch: str, commits: Sequence[int]) -> None:
        """Drop published answers from the outbox; a stale epoch, or a number not drawn yet, changes nothing."""
        if commits:
            keys, args = redis_layout.published_call(self._prefix, group, epoch, commits, self._options.answers_kept_ms)
            await self._with_retries(lambda: self._published(keys=keys, args=args))

    async def answers(self, group: int, commits: Sequence[int]) -> dict[int, bytes]:
        """Return the payloads of earlier commits that are in the outbox or still kept."""
        if not commits:
            return {}
        keys = [self._key(group, f"answers:{number}") for number in commits]
        payloads = await self._with_retries(lambda: self._redis.mget(keys))
        return {number: payload for number, payload in zip(commits, payloads, strict=True) if isinstance(payload, bytes)}

    async def layouts(self, known: Mapping[str, str]) -> dict[str, str]:
        """Register layouts without replacing any; return all registered layouts."""
        return await self._registered("layouts", known)

    async def topic_ids(self, known: Mapping[str, str]) -> dict[str, str]:
        """Register ids of topics without replacing any; return all registered ids."""
        return await self._registered("topics", known)

    async def _registered(self, name: str, known: Mapping[str, str]) -> dict[str, str]:
        keys, args = [f"{self._prefix}:{name}"], [text for pair in known.items() for text in pair]
        return redis_layout.parse_texts(
            await self._with_retries(lambda: self._register(keys=keys, args=args), self._options.assignment_ms)
        )

    async def erase(self, group: int, user_key: bytes) -> Erased:
        """Delete the group's blobs whose key begins with `user_key`, in one pass."""
        return await redis_erase.erase(self._command, self._prefix, group, user_key)

    async def purge_answers(self, group: int, cleaned: Callable[[bytes], bytes | None]) -> Purged:
        """Remove a person from the group's kept payloads; those in the outbox wait."""
        return await redis_erase.purge_answers(self._command, self._prefix, group, cleaned)

    async def dump(self, group: int) -> GroupDump:
        """Read a group's whole state and its position; the server does nothing else meanwhile."""
        return await redis_dump.dump(self._command, self._prefix, group)

    async def _command(self, *arguments: Any) -> Any:  # noqa: ANN401 - a command's answer
        return await self._with_retries(lambda: self._redis.execute_command(*arguments))  # type: ignore[no-untyped-call]

    async def health(self) -> StoreHealth:
        """Read the server's memory and replicas."""
        return await self._health(self._options.patience_ms)

    async def _health(self, patience_ms: int) -> StoreHealth:
        return redis_layout.parse_health(await self._with_retries(self._redis.info, patience_ms))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _with_retries(self, attempt: Callable[[], Awaitable[T]], patience_ms: int | None = None) -> T:
        patience_ms = self._options.patience_ms if patience_ms is None else patience_ms
        return await with_retries(attempt, patience_ms, self._lost)

    async def _lost(self) -> None:
        self._announced.clear()
        await self._redis.connection_pool.disconnect(inuse_connections=False)  # the address may lead elsewhere now


def _raise_refusal(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def resolve_repeated(steps: Sequence[GroupStep], results: Sequence[CommitResult]) -> list[CommitResult]:
    """Return the results of steps sent again: `repeated` means that the first attempt was applied (only this epoch can)."""
    return [
        replace(result, status=CommitStatus.APPLIED, detail="")
        if result.status is CommitStatus.REPEATED and result.commit == step.after + 1
        else result
        for step, result in zip(steps, results, strict=True)
    ]


def warn_of_eviction(health: StoreHealth) -> None:
    """Log a warning if the server evicts state when it is full."""
    if health.may_evict:
        log.warning(
            "Redis may evict state: maxmemory %d bytes, maxmemory-policy %s (%d keys evicted since its start). An evicted key is "
            "a person's history, or an answer that is owed. Set maxmemory-policy to noeviction.",
            health.limit_bytes,
            health.policy,
            health.evicted,
        )
