"""How long a request to Redis is tried again, and what becomes of an error that does not pass."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from redis import exceptions as redis_errors

from stream_app.errors import ContractError, StoreUnavailableError

__all__ = ["with_retries"]

T = TypeVar("T")

_PAUSE_S: Final = 0.25
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


async def with_retries(attempt: Callable[[], Awaitable[T]], patience_ms: int, lost_connection: Callable[[], object]) -> T:
    """Run `attempt` until it answers; what passes by itself is given `patience_ms` and not longer.

    Args:
        attempt: The request; it is made again, so it must be one that may be.
        patience_ms: How long it is tried again.
        lost_connection: Called when the server was away: it may have come back without its last writes.

    Raises:
        StoreUnavailableError: The time is over.
        ContractError: The server refuses for a reason that does not pass.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience_ms / 1000
    refusal: redis_errors.RedisError | None = None  # the last one
    while True:
        try:
            async with asyncio.timeout_at(give_up):
                return await attempt()
        except _PASSING as err:
            if loop.time() >= give_up and refusal is None:
                raise StoreUnavailableError(
                    f"Redis gave no answer for {patience_ms} ms ({_named(err)}); is it running, and is redis.url right?"
                ) from err
            lost_connection()
        except redis_errors.RedisError as err:
            if not _passes(err):
                raise ContractError(
                    f"Redis refused a command: {err}. Operator action: check the server's version (6.2 or later), "
                    "its memory limit (maxmemory-policy must be noeviction) and this user's rights (ACL)."
                ) from err
            refusal = err
        if loop.time() >= give_up:
            raise StoreUnavailableError(
                f"Redis refused every try for {patience_ms} ms ({_named(refusal)}); give it what it lacks"
            ) from refusal
        await asyncio.sleep(_PAUSE_S)


def _named(err: Exception | None) -> str:
    return f"{type(err).__name__}: {err}"  # some say nothing but their class


def _passes(err: redis_errors.RedisError) -> bool:
    # redis-py takes the first word off some messages and makes a class of it.
    return isinstance(err, redis_errors.OutOfMemoryError | redis_errors.ClusterDownError) or bool(_REFUSED.search(str(err)))
