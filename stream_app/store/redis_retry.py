"""Repeats requests to Redis after passing errors, and translates the errors that remain."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from redis import exceptions as redis_errors

from stream_app.errors import ContractError, StoreUnavailableError

T = TypeVar("T")

_PAUSE_S: Final = 0.25
# Errors that pass by themselves: a broken connection, a server that loads its data, a failover.
_PASSING: Final = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.BusyLoadingError,
    redis_errors.ReadOnlyError,
    redis_errors.MasterDownError,
    OSError,
)
# Refusals that pass too, alone or inside a script's error: no disk, a long script, too few replicas, a failover, no memory.
_REFUSED: Final = re.compile(r"\b(MISCONF|BUSY|NOREPLICAS|CLUSTERDOWN|OOM)\b")


async def with_retries(attempt: Callable[[], Awaitable[T]], patience_ms: int, lost_connection: Callable[[], object]) -> T:
    """Run `attempt` until it succeeds; repeat it for at most `patience_ms` after errors that pass by themselves.

    Args:
        attempt: The request; it must be safe to repeat.
        patience_ms: How long to repeat it.
        lost_connection: Called when the server was unreachable: it may have come back without its last writes.

    Raises:
        StoreUnavailableError: No success within `patience_ms`.
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
    return f"{type(err).__name__}: {err}"  # some have no message


def _passes(err: redis_errors.RedisError) -> bool:
    # redis-py turns the first word of some messages into a class.
    return isinstance(err, redis_errors.OutOfMemoryError | redis_errors.ClusterDownError) or bool(_REFUSED.search(str(err)))
