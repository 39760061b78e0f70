from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.web import Application, AppRunner

from stream_app.agents import app_options
from stream_app.errors import ConfigError


def opened(port: int, host: str = "127.0.0.1") -> int:
    """The port that the pages are on, if `port` is the one of the settings."""

    async def scenario() -> int:
        runner = AppRunner(Application())
        await runner.setup()
        conf = SimpleNamespace(web_bind=host, web_port=port)
        app: Any = SimpleNamespace(conf=conf, web=SimpleNamespace(_runner=runner))
        await app_options._site(app).start()
        found: int = runner.addresses[0][1]
        await runner.cleanup()
        return found

    return asyncio.run(scenario())


def test_the_pages_of_a_second_worker_are_on_the_next_free_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        taken = first.getsockname()[1]
        assert opened(taken) > taken
    assert opened(taken) == taken


def test_no_free_port_and_an_address_of_another_machine_are_errors_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_options, "_PORTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as first, pytest.raises(ConfigError, match="are taken; choose another one"):
        opened(first.getsockname()[1])
    with pytest.raises(ConfigError, match=r"worker.web_host 192.0.2.1 and worker.web_port \d+ cannot be opened"):
        opened(20_000, "192.0.2.1")
