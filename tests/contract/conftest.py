"""Lets tests of this folder be coroutines: each runs on the loop of its `runner` fixture, which its other fixtures share."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator

import pytest

from stream_app.store.redis_store import RedisOptions, RedisStore
from tests.contract.steps import GROUPS, SHARED


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A loop for the test and for its fixtures' clean-up."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test on its `runner`."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = pyfuncitem._fixtureinfo.argnames
    runner = pyfuncitem.funcargs["runner"]
    assert isinstance(runner, asyncio.Runner)
    runner.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


@pytest.fixture
def open_store(redis_prefix: str, runner: asyncio.Runner) -> Iterator[Callable[..., RedisStore]]:
    """Opens stores over a given server, to be closed at the end."""
    opened: list[RedisStore] = []

    def new(url: str, *, groups: int = GROUPS, **options: int) -> RedisStore:
        store = RedisStore(url, prefix=redis_prefix, groups=groups, shared_kinds=SHARED, options=RedisOptions(**options))
        opened.append(store)
        return store

    yield new
    for store in opened:
        runner.run(store.close())


@pytest.fixture
def redis_store(redis_url: str, open_store: Callable[..., RedisStore]) -> RedisStore:
    return open_store(redis_url)
