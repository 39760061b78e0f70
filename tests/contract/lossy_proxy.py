"""A TCP proxy that breaks a connection at a chosen moment: before a request arrives, or before its reply comes back."""

from __future__ import annotations

import asyncio
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["LossyProxy"]

Loss = Literal["request", "reply"]


class LossyProxy:
    """Forwards to `url`'s host and port while inside `async with`; `lost` counts what it has swallowed."""

    def __init__(self, url: str) -> None:
        self.lead_to(url)
        self._next: str | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.lost = 0

    async def __aenter__(self) -> LossyProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def lead_to(self, url: str) -> None:
        """Forward new connections there; those that are open stay where they are."""
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "127.0.0.1", parts.port or 6379, parts.path

    @property
    def url(self) -> str:
        """The proxy's own address."""
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self._path}"

    def lose_next(self, what: str) -> None:
        """Swallow the next request, or the next reply, and break its connection."""
        self._next = what

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._forward(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the end of the connection is the end of the work
        finally:
            self._connections.discard(task)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(self._host, self._port)
        ways = [
            asyncio.create_task(self._pump(reader, upstream_writer, "request")),
            asyncio.create_task(self._pump(upstream_reader, writer, "reply")),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            upstream_writer.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, what: str) -> None:
        while data := await source.read(1 << 16):
            if self._next == what:
                self._next = None
                self.lost += 1
                return
            target.write(data)
            await target.drain()
