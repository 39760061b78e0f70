"""Lets tests of this folder be coroutines: each runs on the loop of its `runner` fixture, which its other fixtures share."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import pytest

from stream_app.store.memory import MemoryStore
from stream_app.store.port import Store
from stream_app.store.redis_cluster import RedisClusterStore
from stream_app.store.redis_store import RedisOptions, RedisStore
from tests.contract.steps import GROUPS, SHARED

AnyRedis = TypeVar("AnyRedis", RedisStore, RedisClusterStore)


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
    names = pyfuncitem._fixtureinfo.argnames
    runner = pyfuncitem.funcargs["runner"]
    assert isinstance(runner, asyncio.Runner)
    runner.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture
def open_store(redis_prefix: str, runner: asyncio.Runner) -> Iterator[Callable[..., RedisStore]]:
    """Opens stores over a given server, to be closed at the end."""
    yield from _opening(RedisStore, redis_prefix, runner)


@pytest.fixture
def open_cluster_store(redis_prefix: str, runner: asyncio.Runner) -> Iterator[Callable[..., RedisClusterStore]]:
    """Opens stores over a given cluster, to be closed at the end."""
    yield from _opening(RedisClusterStore, redis_prefix, runner)


def _opening(kind: type[AnyRedis], prefix: str, runner: asyncio.Runner) -> Iterator[Callable[..., AnyRedis]]:
    opened: list[AnyRedis] = []

    def new(url: str, *, groups: int = GROUPS, shared_kinds: frozenset[str] = SHARED, **options: int) -> AnyRedis:
        opened.append(kind(url, prefix=prefix, groups=groups, shared_kinds=shared_kinds, options=RedisOptions(**options)))
        return opened[-1]

    yield new
    for store in opened:
        runner.run(store.close())


@pytest.fixture
def redis_store(redis_url: str, open_store: Callable[..., RedisStore]) -> RedisStore:
    return open_store(redis_url)


@pytest.fixture(
    params=["memory", pytest.param("redis", marks=pytest.mark.redis), pytest.param("cluster", marks=pytest.mark.redis)]
)
def new_store(request: pytest.FixtureRequest) -> Callable[..., Store]:
    """Opens a store of each sort; `groups`, `shared_kinds` and `max_replicas` may be chosen."""
    if request.param == "memory":
        return partial(_memory_store, shared_kinds=SHARED)
    if request.param == "redis":
        return partial(request.getfixturevalue("open_store"), request.getfixturevalue("redis_url"))
    return partial(request.getfixturevalue("open_cluster_store"), request.getfixturevalue("redis_cluster").url)


def _memory_store(groups: int = GROUPS, **options: Any) -> MemoryStore:
    return MemoryStore(groups, **options)


@pytest.fixture
def store(new_store: Callable[..., Store]) -> Store:
    return new_store()
