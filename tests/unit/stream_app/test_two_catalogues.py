"""Workers with two catalogues over one store, as in a rolling deploy: each reads what the other wrote, whoever came first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from stream_app.errors import UnknownLayoutError
from stream_app.features.catalog import CATALOGUE
from stream_app.features.declarations import Catalogue
from stream_app.features.engine import FeatureEngine
from stream_app.store.memory import MemoryStore
from tests.scoring import SETTINGS, make_events, scoring_pipeline
from tests.scoring_run import GROUPS, SHARED, USERS, NotingRanker, Run, log_of
from tests.unit.stream_app.features.catalogue_for_tests import feature

# One more feature of a user's and of a shared entity's, each with a cell that no other reads.
NEWER = replace(
    CATALOGUE,
    features=(
        *CATALOGUE.features,
        feature("new_user", "user", "max", measure="lines", window="10m"),
        feature("new_device", "device", "max", measure="lines", window="10m"),
    ),
)
EVENTS = make_events(90, users=USERS, devices=["d-1"])
LOG = log_of(EVENTS)
NewWorker = Callable[[Catalogue], Run]


class CountingStore(MemoryStore):
    """Counts how often somebody asks for the layouts."""

    asked = 0

    async def layouts(self, known: Mapping[str, str]) -> dict[str, str]:
        self.asked += 1
        return await super().layouts(known)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore(GROUPS, SHARED)


@pytest.fixture
def new_worker(store: CountingStore) -> Iterator[NewWorker]:
    """Opens workers that have learned nothing yet; their features are not compared, so they have a ranker that takes any."""
    workers: list[Run] = []

    def opened(catalogue: Catalogue) -> Run:
        engine = FeatureEngine(catalogue, allowed_lateness_ms=SETTINGS.features.allowed_lateness_ms)
        ranker = NotingRanker()
        workers.append(Run(scoring_pipeline(store, engine=engine, ranker=ranker), store, ranker))
        return workers[-1]

    yield opened
    for worker in workers:
        worker.pipeline.model_thread.shutdown()


def seen(worker: Run, kind: str) -> dict[str, int]:
    """How many events the worker finds in the state of each entity of a kind, over its groups."""
    counts: dict[str, int] = {}
    for (_, of, key), blob in worker.store.state().items():
        if of == kind:
            tiles: dict[str, dict[int, int]] = worker.pipeline.engine.describe(kind, blob)["tiles"]  # type: ignore[assignment]
            counts[key.hex()] = counts.get(key.hex(), 0) + sum(tiles["sum events/10m"].values())
    return counts


def test_a_worker_that_looked_before_the_other_wrote_looks_again_and_goes_on(new_worker: NewWorker, store: CountingStore) -> None:
    old, new = new_worker(CATALOGUE), new_worker(NEWER)

    async def scenario() -> None:
        await old.batch(LOG[:30])
        await old.pipeline.learn_layouts()  # assigned at once, the old one looks first
        await new.pipeline.learn_layouts()
        await new.batch(LOG[30:60])
        asked = store.asked
        await old.batch(LOG[60:75])
        assert store.asked == asked + 1
        await old.batch(LOG[75:])
        assert store.asked == asked + 1, "what it has learned it knows"

    asyncio.run(scenario())
    users = seen(old, "user")
    assert len(users) == len(USERS)
    assert sum(users.values()) == len(EVENTS), "nothing of what either wrote is lost"
    assert list(seen(old, "device").values()) == [len(EVENTS)]


def test_a_layout_that_the_store_does_not_describe_ends_the_worker(new_worker: NewWorker, store: CountingStore) -> None:
    old, new = new_worker(CATALOGUE), new_worker(NEWER)

    async def scenario() -> None:
        await old.pipeline.learn_layouts()
        await new.batch(LOG[:30])  # its layouts were never written, or are lost
        before = store.state()
        with pytest.raises(UnknownLayoutError, match="which this worker does not know"):
            await old.batch(LOG[30:])
        assert store.asked == 2
        assert store.state() == before

    asyncio.run(scenario())
