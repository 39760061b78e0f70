"""Fixtures for all tests: real services, names of one's own on them, and guards against what a test leaves behind.

A test never empties a server: it works under `topic_prefix` and `redis_prefix`, and only what bears those is removed.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devservices import cluster, real
from devservices.cluster import ClusterState
from devservices.probe import kafka_answers, redis_answers
from devservices.state import ServicesState, state_path
from stream_app.errors import ServiceError
from tests.tensorrt_libraries import RELEASES, FetchError, Library, fetch

CHECKOUT = Path(__file__).resolve().parents[1]

# Pools that live as long as the process, whoever used them first.
_LASTING_THREADS = re.compile(r"asyncio_\d+|pytest_timeout.*|tqdm.*|Mlflow\w+ArtifactRepository_\d+")
_THREAD_PATIENCE_S = 5.0
# Tests in these folders, or with these markers, use servers that other tests use, kill processes or fill the machine.
_SHARED_FOLDERS = frozenset({"integration", "chaos", "gpu"})
_SHARED_MARKERS = ("kafka", "redis", "slow", "gpu")
# `make test-unit` runs without torch: files that import it are not collected, tests that need a trained artefact are left out.
_TESTS = Path(__file__).parent
HAS_TORCH = importlib.util.find_spec("torch") is not None
_TORCH_FIXTURES = frozenset({"made_up_dataset", "untrained", "built_artifact"})
_TORCH_BENCHMARKS = r"benchmarks\.bench_engine|benchmarks\.live\.perturbed_model"
_TORCH_IMPORT = re.compile(
    rf"^(?:import|from) (?:torch|transformers|onnx|lightgbm|sklearn|training|trt_build|{_TORCH_BENCHMARKS})\b", re.MULTILINE
)
collect_ignore = [] if HAS_TORCH else [
    *("unit/model", "unit/training", "unit/trt_build", "integration/trt_build"),
    *(str(test.relative_to(_TESTS)) for test in _TESTS.rglob("test_*.py") if _TORCH_IMPORT.search(test.read_text("utf-8"))),
]  # fmt: skip
_RAN_BEFORE = pytest.StashKey[tuple[bool, bool]]()
_ASYNCIO_LEAKS = ("was destroyed but it is pending", "exception was never retrieved")


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C reach what tests start, and see which servers run before them."""
    # A shell that runs us in the background has SIGINT ignored, and children inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.stash[_RAN_BEFORE] = (_running() is not None, cluster.status(CHECKOUT).ok)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers that the session started: the workers of pytest-xdist share them, so only their parent may."""
    services_ran, cluster_ran = config.stash.get(_RAN_BEFORE, (True, True))
    if not services_ran and _running() is not None:
        real.down(CHECKOUT)
    if not cluster_ran and cluster.status(CHECKOUT).ok:
        cluster.down(CHECKOUT)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what may not run on all cores, note each test's cases, and leave out what needs torch where there is none."""
    for item in items:
        if item.path.relative_to(CHECKOUT).parts[1] in _SHARED_FOLDERS or any(map(item.get_closest_marker, _SHARED_MARKERS)):
            item.add_marker("shared")
        # For tools/server_cases.py; a report has the names of markers, and not their arguments.
        item.user_properties.extend(("case", marker.args[0]) for marker in item.iter_markers("case"))
    if HAS_TORCH:
        return
    without = [item for item in items if not _TORCH_FIXTURES & set(getattr(item, "fixturenames", ()))]
    config.hook.pytest_deselected(items=[item for item in items if item not in without])
    items[:] = without


@pytest.fixture(scope="session")
def real_services() -> ServicesState:
    """Kafka and Redis of this checkout: those that run already, else started now and stopped when the session ends."""
    with _needed("real services"):
        return _running() or real.up(CHECKOUT, lambda _line: None)


@pytest.fixture(scope="session")
def redis_cluster() -> ClusterState:
    """A Redis Cluster of this checkout: one that runs, else started now and stopped when the session ends. Kill no node of it."""
    running = cluster.status(CHECKOUT)
    with _needed("Redis Cluster"):
        return running if running.ok else cluster.up(CHECKOUT, lambda _line: None)


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a Redis Cluster of the module's own, whose nodes may be killed (`services.cluster.up` brings them back)."""
    root = tmp_path_factory.mktemp("cluster")
    try:
        with _needed("Redis Cluster"):
            cluster.up(root, lambda _line: None)
        yield root
    finally:
        cluster.down(root, wipe=True)
        assert [node.pid for node in cluster.status(root).nodes] == [0] * 6


@pytest.fixture(scope="session")
def tensorrt_libraries() -> dict[str, Library]:
    """NVIDIA's TensorRT of this checkout, releases 10 and 11: fetched by the first run (540 MB), kept in `.services`."""
    with _needed("TensorRT libraries"):
        return {name: fetch(CHECKOUT, name) for name in RELEASES}


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> Iterator[str]:
    """A prefix for topics and groups that no other test has; its topics are removed afterwards."""
    prefix = f"t{secrets.token_hex(5)}-"
    yield prefix
    if "real_services" in request.fixturenames:
        state: ServicesState = request.getfixturevalue("real_services")
        _remove_topics(state.kafka.bootstrap, prefix)


@pytest.fixture
def redis_prefix(request: pytest.FixtureRequest) -> Iterator[str]:
    """A first part of keys that no other test has; its keys are removed afterwards."""
    prefix = f"t{secrets.token_hex(5)}"
    yield prefix
    if "real_services" in request.fixturenames:
        state: ServicesState = request.getfixturevalue("real_services")
        _remove_keys(state.redis.url, prefix)
    if "redis_cluster" in request.fixturenames:
        of_cluster: ClusterState = request.getfixturevalue("redis_cluster")
        for node in of_cluster.nodes:
            if node.role == "primary":
                _remove_keys(f"redis://127.0.0.1:{node.port}/0", prefix)


@pytest.fixture
def redis_url(real_services: ServicesState) -> str:
    """Address of the real Redis. Take `redis_prefix` beside it: the server is shared."""
    return real_services.redis.url


@pytest.fixture
def kafka_bootstrap(real_services: ServicesState) -> str:
    """Address of the real broker. Take `topic_prefix` beside it: the broker is shared."""
    return real_services.kafka.bootstrap


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread, a pending asyncio task or a changed environment variable behind."""
    environment, threads = _environment(), set(threading.enumerate())
    with _asyncio_complaints() as complaints:
        yield
        gc.collect(1)  # a forgotten task hangs in a cycle with its loop; the young generations are quick to search
    leaked_threads = _new_threads(threads)
    changed = _restore(environment)
    assert not changed, f"the test left environment variables changed: {changed} (use monkeypatch)"
    assert not leaked_threads, f"the test left threads running: {leaked_threads}"
    assert not complaints, f"the test left asyncio tasks behind: {complaints}"


@contextmanager
def _needed(what: str) -> Iterator[None]:
    """What cannot be started or fetched inside skips the test on a laptop and fails it in CI."""
    try:
        yield
    except (ServiceError, FetchError) as err:
        if os.environ.get("CI"):
            pytest.fail(f"no {what}, which CI requires: {err}")
        pytest.skip(f"no {what}: {err}")


def _running() -> ServicesState | None:
    state = ServicesState.load(state_path(CHECKOUT))
    if state is None or state.kind != "real":
        return None
    kafka_port = int(state.kafka.bootstrap.rpartition(":")[2])
    redis_port = int(state.redis.url.rpartition(":")[2].partition("/")[0])
    return state if kafka_answers(kafka_port) and redis_answers(redis_port) else None


def _remove_topics(bootstrap: str, prefix: str) -> None:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        names = [name for name in admin.list_topics() if name.startswith(prefix)]
        if names:
            admin.delete_topics(names)
    finally:
        admin.close()


def _remove_keys(url: str, prefix: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(match=f"{prefix}*", count=1000):
            client.unlink(key)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def _restore(before: dict[str, str]) -> list[str]:
    after = _environment()
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    for name in changed:
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]
    return changed


def _new_threads(before: set[threading.Thread]) -> list[str]:
    """Return the names of threads that stay, after some patience: a client's thread may need a moment to end."""

    def left() -> list[str]:
        new = set(threading.enumerate()) - before
        return [thread.name for thread in new if thread.is_alive() and not _LASTING_THREADS.fullmatch(thread.name)]

    deadline = time.monotonic() + _THREAD_PATIENCE_S
    while left() and time.monotonic() < deadline:
        time.sleep(0.02)
    return left()


@contextmanager
def _asyncio_complaints() -> Iterator[list[str]]:
    """Collect what asyncio logs when a task is thrown away unfinished, or its exception unseen."""
    collector = _Collector()
    logging.getLogger("asyncio").addHandler(collector)
    try:
        yield collector.seen
    finally:
        logging.getLogger("asyncio").removeHandler(collector)


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if any(leak in message for leak in _ASYNCIO_LEAKS):
            self.seen.append(message)
