"""Removes a person from one group's keys, for `millrace forget`; not for the hot path: it scans all keys of the server.

The scan may miss a key that is written meanwhile, so the caller repeats the pass (see `stream_app.store.port.Erased`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from stream_app.store.port import Erased, Purged
from stream_app.store.redis_layout import answers_head, group_head, kind_of
from stream_app.store.redis_scripts import PURGE

_SCAN: Final = 5_000  # keys that one SCAN visits: the server does nothing else for a few ms

Command = Callable[..., Awaitable[Any]]  # runs one command at the group's server, like redis-py's execute_command, with retries


async def erase(command: Command, prefix: str, group: int, user_key: bytes) -> Erased:
    """Delete the group's blobs whose key begins with `user_key`."""
    head, counts = group_head(prefix, group), dict[str, int]()
    async for keys in _scan(command, f"{head}*:{user_key.hex()}*"):
        await command("UNLINK", *keys)
        for key in keys:
            counts[kind_of(key)] = counts.get(kind_of(key), 0) + 1
    return Erased(counts, int(await command("GET", f"{head}commit") or 0))


async def purge_answers(command: Command, prefix: str, group: int, cleaned: Callable[[bytes], bytes | None]) -> Purged:
    """Remove a person from the group's kept payloads; those in the outbox wait."""
    head, count, waiting = answers_head(prefix, group), 0, list[int]()
    async for keys in _scan(command, f"{head}*"):
        for key in keys:
            number = int(key.decode().removeprefix(head))
            outcome = await _purge_one(command, (key, f"{group_head(prefix, group)}outbox"), number, cleaned)
            count += outcome == _CLEANED
            if outcome == _WAITS:
                waiting.append(number)
    return Purged(count, tuple(sorted(waiting)))


_CLEANED, _CHANGED, _WAITS = 1, 0, -1  # the results of PURGE


async def _purge_one(command: Command, keys: tuple[bytes, str], number: int, cleaned: Callable[[bytes], bytes | None]) -> int:
    while (payload := await command("GET", keys[0])) is not None:
        rest = cleaned(payload)
        if rest is None:
            break
        outcome = int(await command("EVAL", PURGE, 2, *keys, number, payload, rest))
        if outcome != _CHANGED:
            return outcome
    return _CHANGED


async def _scan(command: Command, pattern: str) -> AsyncIterator[list[bytes]]:
    """Yield the keys that match a pattern; a key that exists throughout comes exactly once."""
    cursor, seen = 0, set[bytes]()
    while True:
        cursor, keys = await command("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN)
        fresh = [key for key in dict.fromkeys(keys) if key not in seen]
        seen.update(fresh)
        if fresh:
            yield fresh
        if not cursor:
            return
