"""The store in one Redis server (6.2 or later): one script reads a batch, one script a group commits it.

The layout of the keys is in `redis_scripts`. A commit whose answer was lost with the connection is asked again: the fence answers
`repeated` when the first attempt had been applied, and as only this epoch can have applied it, that counts as applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import redis.asyncio as redis_asyncio
from redis import exceptions as redis_errors
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from stream_app.errors import ContractError, StoreUnavailableError
from stream_app.features.columns import EntityRows
from stream_app.store import redis_scripts
from stream_app.store.port import Claim, CommitResult, CommitStatus, GroupStep, Snapshot

__all__ = ["RedisStore"]

# A Redis that restarts with an AOF of some hundred MB answers LOADING for seconds; beyond this the worker gives up and restarts.
_PATIENCE_S: Final = 60.0
_PAUSE_S: Final = 0.25
_HOLDERS_CACHE: Final = 1_000_000  # (kind, key, group) triples known to be in the index; about 100 bytes each


class RedisStore:
    """Store in Redis (see `stream_app.store.port.Store`)."""

    def __init__(self, url: str, *, prefix: str, groups: int, shared_kinds: frozenset[str], timeout_ms: int = 5_000) -> None:
        self._prefix = prefix
        self._groups = groups
        self._shared_kinds = shared_kinds
        self._counter_keys = [self._key(group, "commit") for group in range(groups)]
        self._known_holders: set[tuple[str, bytes, int]] = set()
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
        keys = [self._key(group, "meta"), self._key(group, "commit"), self._key(group, "outbox")]
        epoch, meta, commit, outbox = await self._patiently(lambda: self._claim(keys=keys, args=[owner]))
        fields = _pairs(meta)
        fronts = {
            name.removeprefix(b"front:").decode(): int(value) for name, value in fields.items() if name.startswith(b"front:")
        }
        answers = {int(number): payload for number, payload in _pairs(outbox).items()}
        return Claim(epoch.decode(), fronts, int(commit), dict(sorted(answers.items())))

    async def read(self, rows: Mapping[str, EntityRows]) -> Snapshot:
        """Read the blobs of a batch's entities in one script, hence at one point in time."""
        kinds = sorted(rows, key=lambda kind: kind in self._shared_kinds)  # shared ones last, as the script wants them
        keys: list[str] = list(self._counter_keys)
        args: list[str | int] = [self._groups, self._prefix]
        for kind in kinds:
            tails = [f"{kind}:{key.hex()}" for key in rows[kind].keys]
            groups = rows[kind].groups.tolist()
            keys.extend(f"{self._prefix}:{{g{group}}}:{tail}" for group, tail in zip(groups, tails, strict=True))
            if kind in self._shared_kinds:
                for group, tail in zip(groups, tails, strict=True):
                    args.append(tail)
                    args.append(group)
        counters, blobs, replicas = await self._patiently(lambda: self._read(keys=keys, args=args))
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
        attempts = 0

        async def attempt() -> list[Any]:
            nonlocal attempts
            attempts += 1
            pipe = self._redis.pipeline(transaction=False)
            self._announce_holders(pipe, steps)
            for step in steps:
                keys, args = self._commit_arguments(step)
                pipe.evalsha(self._commit.sha, len(keys), *keys, *args)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
            answers = answers[len(answers) - len(steps) :]
            for answer in answers:
                if isinstance(answer, redis_errors.NoScriptError):
                    await self._redis.script_load(
                        redis_scripts.COMMIT if not hasattr(self._commit, "script") else self._commit.script
                    )
                    raise redis_errors.ConnectionError("the server had lost its scripts; loaded again")
                if isinstance(answer, Exception):
                    raise answer
            return answers

        answers = await self._patiently(attempt)
        results = [_result(answer) for answer in answers]
        if attempts > 1:  # only this epoch can have applied it: it was our own first attempt
            results = [
                CommitResult(CommitStatus.APPLIED, result.commit) if result.status is CommitStatus.REPEATED else result
                for result in results
            ]
        self._remember_holders(steps)
        return results

    def _commit_arguments(self, step: GroupStep) -> tuple[list[str], list[bytes | str | int]]:
        keys = [self._key(step.group, "meta"), self._key(step.group, "commit"), self._key(step.group, "outbox")]
        args: list[bytes | str | int] = [step.epoch, step.payload, len(step.ranges)]
        for topic, (start, end) in step.ranges.items():
            args.extend((topic, start, end))
        args.append(len(step.published))
        args.extend(step.published)
        for write in step.writes:
            head = f"{self._prefix}:{{g{step.group}}}:{write.kind}:"
            keys.extend(head + key.hex() for key in write.keys)
            for blob in write.blobs:
                args.append(blob)
                args.append(write.ttl_ms)
        return keys, args

    def _announce_holders(self, pipe: Any, steps: Sequence[GroupStep]) -> None:  # noqa: ANN401 - redis-py's pipeline is untyped
        # Before the commit: a bit without a replica costs a read nothing, a replica without its bit would be missed.
        for step in steps:
            for write in step.writes:
                if write.shared:
                    for key in write.keys:
                        if (write.kind, key, step.group) not in self._known_holders:
                            pipe.setbit(f"{self._prefix}:holders:{write.kind}:{key.hex()}", step.group, 1)

    def _remember_holders(self, steps: Sequence[GroupStep]) -> None:
        if len(self._known_holders) > _HOLDERS_CACHE:
            self._known_holders.clear()
        for step in steps:
            for write in step.writes:
                if write.shared:
                    self._known_holders.update((write.kind, key, step.group) for key in write.keys)

    async def mark_published(self, group: int, epoch: str, commits: Sequence[int]) -> None:
        """Drop published answers from the outbox; a stale epoch changes nothing."""
        if commits:
            keys = [self._key(group, "meta"), self._key(group, "outbox")]
            await self._patiently(lambda: self._published(keys=keys, args=[epoch, *commits]))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _patiently(self, attempt: Any) -> Any:  # noqa: ANN401 - what a script answers has no static type
        """Run `attempt` until it answers; a server that is down or loading is given `_PATIENCE_S`."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _PATIENCE_S
        while True:
            try:
                return await attempt()
            except (redis_errors.ConnectionError, redis_errors.TimeoutError, redis_errors.BusyLoadingError, OSError) as err:
                if loop.time() >= give_up:
                    raise StoreUnavailableError(
                        f"Redis gave no answer for {_PATIENCE_S:.0f} s ({err}); is it running, and is redis.url right?"
                    ) from err
                self._known_holders.clear()  # a server that came back may have lost its last writes
                await asyncio.sleep(_PAUSE_S)
            except redis_errors.RedisError as err:
                raise ContractError(
                    f"Redis refused a command: {err}. Operator action: check the server's version (6.2 or later), "
                    "its memory limit (maxmemory-policy must be noeviction) and this user's rights (ACL)."
                ) from err


def _pairs(flat: Any) -> dict[bytes, bytes]:  # noqa: ANN401 - a list in RESP2 and in scripts, a dict elsewhere
    if isinstance(flat, dict):
        return flat
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _result(answer: Sequence[bytes]) -> CommitResult:
    status, commit, detail = answer
    return CommitResult(CommitStatus(status.decode()), int(commit), detail.decode())
