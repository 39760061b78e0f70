"""Commands with thousands of arguments, packed by hiredis: redis-py's own packing needs 2 us for each, and an event has ten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio as redis_asyncio
from hiredis import pack_command
from redis.exceptions import ResponseError

__all__ = ["Command", "exchange"]

Command = tuple[str | bytes | int, ...]
pack: Callable[[Command], bytes] = pack_command  # type: ignore[assignment]  # its types know commands of one word only


async def exchange(client: redis_asyncio.Redis, commands: Sequence[Command]) -> list[Any]:
    """Send commands in one go on one connection, in order; returns what the server answered.

    An answer that is a refusal is a `ResponseError` in the list. The connection of an exchange that is cut short, by an error or
    by a cancellation, is closed: no other call may get its answers.
    """
    pool = client.connection_pool
    connection: redis_asyncio.Connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        await connection.send_packed_command([pack(command) for command in commands])
        answers: list[Any] = []
        for _ in commands:
            try:
                answers.append(await connection.read_response())
            except ResponseError as err:
                answers.append(err)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)
    return answers
