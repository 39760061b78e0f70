"""Repeats requests to Redis after passing errors, and translates the errors that remain."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from redis import exceptions as redis_errors

from stream_app.errors import ConfigError, ContractError, StoreUnavailableError

T = TypeVar("T")

log = logging.getLogger(__name__)

_PAUSE_S: Final = 0.25
_SILENT_S: Final = 1.0  # a failover may take as long; what lasts longer is told
# Errors that pass by themselves: a broken connection, a server that loads its data, a failover.
_PASSING: Final = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.BusyLoadingError,
    redis_errors.ReadOnlyError,
    redis_errors.MasterDownError,
    OSError,
)
_ENDED_IN_HANDSHAKE: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError)  # such a server comes back
# Refusals that pass too, alone or inside a script's error: no disk, a long script, too few replicas, a failover, no memory.
_REFUSED: Final = re.compile(r"\b(MISCONF|BUSY|NOREPLICAS|CLUSTERDOWN|OOM|READONLY)\b")
# Before Redis 7 a script's error only contains the word, so redis-py makes no ReadOnlyError of it.
_DEMOTED: Final = re.compile(r"\bREADONLY\b")


async def with_retries(
    attempt: Callable[[], Awaitable[T]], patience_ms: int, lost_connection: Callable[[], Awaitable[object]]
) -> T:
    """Run `attempt` until it succeeds; repeat it for at most `patience_ms` after errors that pass by themselves.

    Args:
        attempt: The request; it must be safe to repeat.
        patience_ms: How long to repeat it.
        lost_connection: Awaited when the server was unreachable or no primary: it may have come back without its last writes,
            or the address may lead to another server by now.

    Raises:
        StoreUnavailableError: No success within `patience_ms`.
        ContractError: The server refuses for a reason that does not pass.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience_ms / 1000
    began, tell_at = loop.time(), loop.time() + _SILENT_S
    cause: Exception | None = None  # of the last try that failed by itself
    while True:
        try:
            async with asyncio.timeout_at(give_up):
                result = await attempt()
        except (redis_errors.RedisError, OSError) as err:
            if refused := refusal(err):
                raise refused from err
            if not isinstance(err, _PASSING):
                cause = err
                if _DEMOTED.search(str(err)):
                    await lost_connection()
            elif loop.time() < give_up:
                cause = err
                await lost_connection()
            elif cause is None:
                cause = err
        else:
            if tell_at == give_up:
                log.warning("Redis works again, after %.1f s", loop.time() - began)
            return result
        if loop.time() >= tell_at and cause is not None:
            tell_at = give_up
            log.warning("Redis does not do what is asked (%s); trying for up to %.0f s", _named(cause), patience_ms / 1000)
        if loop.time() >= give_up:
            raise _unavailable(cause, patience_ms) from cause
        await asyncio.sleep(_PAUSE_S)


def refusal(err: Exception) -> ContractError | None:
    """Return what an operator must change if the server refuses for a reason that does not pass; None for any other error."""
    chain = (err, err.__cause__, err.__context__)
    if any(isinstance(cause, redis_errors.AuthenticationError | redis_errors.AuthorizationError) for cause in chain):
        return ContractError(
            f"Redis does not let this worker in: {err}. Operator action: correct user and password in redis.url "
            "(rediss://user:password@host:port/0, with @ # : / inside them percent-encoded)."
        )
    if any(isinstance(cause, ssl.SSLError) and not isinstance(cause, _ENDED_IN_HANDSHAKE) for cause in chain):
        return ContractError(
            f"Redis and redis.url differ about TLS: {err}. Operator action: write rediss:// for a port with TLS and a "
            "certificate that this machine trusts, redis:// for one without."
        )
    if isinstance(err, redis_errors.RedisError) and not isinstance(err, _PASSING) and not _passes(err):
        return ContractError(
            f"Redis refused a command: {err}. Operator action: check the server's version (6.2 or later), "
            "its memory limit (maxmemory-policy must be noeviction) and this user's rights (ACL)."
        )
    return None


def wrong_option(err: Exception) -> ConfigError:
    """Return the error of a URL with an option that the client library does not take."""
    return ConfigError(f"redis.url (MILLRACE_REDIS_URL) has an option that redis-py does not take: {err}; correct or remove it")


def _unavailable(cause: Exception | None, patience_ms: int) -> StoreUnavailableError:
    if isinstance(cause, _PASSING):
        return StoreUnavailableError(
            f"Redis gave no answer for {patience_ms} ms ({_named(cause)}); is it running, and is redis.url right (host, port, "
            "rediss:// for TLS)?"
        )
    return StoreUnavailableError(f"Redis refused every try for {patience_ms} ms ({_named(cause)}); give it what it lacks")


def _named(err: Exception | None) -> str:
    return f"{type(err).__name__}: {str(err) or 'nothing came back'}"


def _passes(err: redis_errors.RedisError) -> bool:
    # redis-py turns the first word of some messages into a class. A script may be flushed again just after it was loaded.
    classes = redis_errors.OutOfMemoryError | redis_errors.ClusterDownError | redis_errors.NoScriptError
    return isinstance(err, classes) or bool(_REFUSED.search(str(err)))
