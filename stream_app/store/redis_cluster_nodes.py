"""Which node of a Redis Cluster serves which slot, with a client for each node, and one pipeline for each node.

The first request reads the slot map (CLUSTER SLOTS). Every sign that it may be wrong (a redirection, a broken connection, a
cluster that is down) makes the next request read it again, each time from another node, so that a node that is cut off is not
believed twice. Redirections are not followed one by one: there is one script for each group, so the whole request is repeated
with the new map.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from binascii import crc_hqx
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import redis.asyncio as redis_asyncio
from redis import exceptions as redis_errors
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from stream_app.errors import ConfigError
from stream_app.store.redis_pipeline import Command, exchange

T = TypeVar("T")

SLOTS: Final = 16_384
_PORT: Final = 6_379
_MARK_MS: Final = 60_000

# Errors of a slot that is elsewhere, or nowhere for the moment. A script reports them as text, as it names its keys itself.
_ELSEWHERE: Final = (redis_errors.AskError, redis_errors.TryAgainError, redis_errors.ClusterDownError)  # MOVED is an ASK here
_ELSEWHERE_WORDS: Final = re.compile(r"\b(MOVED|ASK|TRYAGAIN|CLUSTERDOWN)\b|non local key|cluster is down")

Call = tuple[str, Command]  # one of the scripts of ClusterNodes and its EVALSHA arguments; or "" and a command


class ClusterNodes:
    """The primaries of a cluster. Not thread-safe: one event loop.

    Args:
        url: `redis://[user:password@]host:port[,host:port ...]`: some of its nodes.
        timeout_s: Limit of one request.
        scripts: All scripts of later calls.
        changed: Called when a slot has another primary than before.
        copies: How many replicas must have the writes of `run_durably`, and how many ms they may take; (0, 0) for none.

    Raises:
        ConfigError: The URL names no host, or a database: a cluster has only number 0.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        scripts: Sequence[str],
        changed: Callable[[], object],
        copies: tuple[int, int] = (0, 0),
    ) -> None:
        self._url = urlsplit(url)
        self._timeout_s = timeout_s
        self._scripts = {script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in scripts}
        self._changed = changed
        self._copies = copies
        self._seeds = _seeds(url)
        self._owners: list[str] = []  # slot -> host:port
        self._clients: dict[str, redis_asyncio.Redis] = {}
        self._stale = True
        self._asked = 0
        self._asking = asyncio.Lock()
        self.version = 0  # grows when a slot gets another primary

    def invalidate(self) -> None:
        """Read the slot map again before the next request."""
        self._stale = True

    async def refresh(self) -> None:
        """Read the slot map if it is missing or invalidated.

        Raises:
            redis.exceptions.ConnectionError: No node answers, or the node that answers knows no primary for a slot.
        """
        async with self._asking:
            if not self._stale:
                return
            known = list(dict.fromkeys([*self._owners, *self._seeds]))
            for turn in range(len(known)):
                address = known[(self._asked + turn) % len(known)]
                try:
                    [reply] = await self._send(address, [("", ("CLUSTER", "SLOTS"))])
                    if isinstance(reply, Exception):
                        raise reply
                    owners = _owners_of(reply, address)
                except (redis_errors.RedisError, OSError) as err:
                    complaint = f"{address}: {err}"
                    continue
                self._asked += turn + 1
                await self._use(owners)
                return
        raise redis_errors.ConnectionError(f"no node of the cluster answers, the last: {complaint}")

    async def _use(self, owners: list[str]) -> None:
        if "" in owners:
            raise redis_errors.ConnectionError(f"slot {owners.index('')} of the cluster is served by no node")
        if self._owners and owners != self._owners:
            self.version += 1
            self._changed()
        self._owners, self._stale = owners, False
        for address in self._clients.keys() - set(owners):
            await self._clients.pop(address).aclose()

    def node_of(self, slot: int) -> str:
        """Return the address of the primary of `slot`."""
        return self._owners[slot]

    @property
    def primaries(self) -> list[str]:
        """Return the addresses of all primaries."""
        return list(dict.fromkeys(self._owners))

    async def command(self, address: str, *arguments: Any) -> Any:  # noqa: ANN401 - as redis-py parses it
        """Run one command at a node; return the answer of redis-py's `execute_command`.

        Raises:
            redis.exceptions.RedisError: As `run`.
        """
        client: Any = self._client(address)
        try:
            return await client.execute_command(*arguments)
        except redis_errors.ResponseError as err:
            raise self._translated(err) from err

    async def run(self, address: str, calls: Sequence[Call]) -> list[Any]:
        """Run calls at a node in one pipeline on one connection, in order; return the server's answers.

        Raises:
            redis.exceptions.RedisError: The first refusal; the calls after it may have run. A ConnectionError if the slot is
                elsewhere.
        """
        answers = await self._send(address, calls)
        if any(isinstance(answer, redis_errors.NoScriptError) for answer in answers):  # the node is new, or was restarted
            for script in self._scripts:
                await self._client(address).script_load(script)
            # Only scripts that did not run; and commands, since they may depend on the scripts before them.
            again = [at for at, call in enumerate(calls) if not call[0] or isinstance(answers[at], redis_errors.NoScriptError)]
            for at, answer in zip(again, await self._send(address, [calls[at] for at in again]), strict=True):
                answers[at] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise self._translated(answer) from answer
        return answers

    async def run_durably(self, address: str, calls: Sequence[Call], mark: str = "") -> list[Any]:
        """Call `run`, and return only when the configured number of replicas has the writes.

        Args:
            address: The node.
            calls: The calls to run.
            mark: A key of this node to write, if the calls may write nothing: WAIT is about its connection's last write.

        Raises:
            redis.exceptions.RedisError: As `run`; NOREPLICAS if too few replicas have the writes in time.
        """
        replicas, wait_ms = self._copies
        if not replicas:
            return await self.run(address, calls)
        marks: list[Call] = [("", ("SET", mark, "", "PX", _MARK_MS))] if mark else []
        *answers, have = await self.run(address, [*calls, *marks, ("", ("WAIT", replicas, wait_ms))])
        if have < replicas:
            raise redis_errors.ResponseError(
                f"NOREPLICAS {have} replicas of {address} had the batch after {wait_ms} ms, redis.wait_replicas wants {replicas}"
            )
        return answers[: len(calls)]

    async def _send(self, address: str, calls: Sequence[Call]) -> list[Any]:
        commands = [("EVALSHA", self._scripts[script], *arguments) if script else arguments for script, arguments in calls]
        return await exchange(self._client(address), commands)

    def _translated(self, err: Exception) -> Exception:
        if isinstance(err, _ELSEWHERE) or _ELSEWHERE_WORDS.search(str(err)):
            self.invalidate()
            return redis_errors.ConnectionError(f"the cluster is being rearranged: {type(err).__name__} {err}")
        return err

    def _client(self, address: str) -> redis_asyncio.Redis:
        if address not in self._clients:
            user, at, _ = self._url.netloc.rpartition("@")
            url = urlunsplit(self._url._replace(netloc=f"{user}{at}{address}"))
            self._clients[address] = redis_asyncio.Redis.from_url(
                url,
                protocol=3,
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
                retry=Retry(NoBackoff(), 0),  # the store retries: a commit must know that it is a retry
            )
        return self._clients[address]

    async def close(self) -> None:
        """Close the connections."""
        while self._clients:
            await self._clients.popitem()[1].aclose()


def slot_of(key: str) -> int:
    """Return the slot of a key without a hash tag."""
    return crc_hqx(key.encode(), 0) % SLOTS


async def gather_by_node(work: Mapping[str, Coroutine[Any, Any, T]]) -> dict[str, T]:
    """Run the work of all nodes at once and to the end; only then raise the first error."""
    done = await asyncio.gather(*work.values(), return_exceptions=True)
    for answer in done:
        if isinstance(answer, BaseException):
            raise answer
    return dict(zip(work, done, strict=True))  # type: ignore[arg-type]  # no exception is left in it


def _seeds(url: str) -> list[str]:
    parts = urlsplit(url)
    hosts = [
        host if re.search(r":\d+$", host) else f"{host}:{_PORT}" for host in parts.netloc.rpartition("@")[2].split(",") if host
    ]
    if not hosts or parts.scheme == "unix":
        raise ConfigError("redis.cluster is true, so redis.url must name nodes: redis://host:port[,host:port ...]")
    if parts.path.strip("/") not in {"", "0"}:
        raise ConfigError(f"redis.url names database {parts.path.strip('/')}, but a Redis Cluster has only 0; leave it out")
    return hosts


def _owners_of(reply: Any, asked: str) -> list[str]:  # noqa: ANN401 - redis-py leaves it as the server's lists
    owners = [""] * SLOTS
    for first, last, primary, *_replicas in reply:
        host = primary[0].decode() if primary[0] else asked.rpartition(":")[0]  # such a node does not know its own address
        address = f"[{host}]:{primary[1]}" if ":" in host and not host.startswith("[") else f"{host}:{primary[1]}"
        owners[first : last + 1] = [address] * (last + 1 - first)
    return owners
