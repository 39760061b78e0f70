"""Sends commands with thousands of arguments, packed by hiredis: redis-py needs 2 us to pack one, and an event has ten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio as redis_asyncio
from hiredis import pack_command
from redis.exceptions import ResponseError

Command = tuple[str | bytes | int, ...]
pack: Callable[[Command], bytes] = pack_command  # type: ignore[assignment]  # its types allow only commands of one word


async def exchange(client: redis_asyncio.Redis, commands: Sequence[Command]) -> list[Any]:
    """Send commands at once on one connection, in order; return the server's answers.

    A refusal is a `ResponseError` in the list. If an error or a cancellation cuts the exchange short, its connection is
    closed, so that no other call gets its answers.
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
