"""The numbered life of an event in the package's docstring matches the calls of a real batch."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from prometheus_client import CollectorRegistry

import stream_app
from stream_app import wiring
from stream_app.agents.batching import BatchScheduler, SourceAgent
from stream_app.agents.commit_order import OrderedCommitBarrier
from stream_app.agents.handler import ScoringHandler
from stream_app.agents.ownership import OwnershipTracker
from stream_app.agents.ports import Chunk, TopicPartition
from stream_app.agents.publisher import Publisher
from stream_app.agents.transport import ChunkConsumer
from stream_app.clock import SettableClock
from stream_app.config import Settings
from stream_app.events import SOURCE_TOPICS
from stream_app.metrics import Metrics
from stream_app.store.memory import MemoryStore
from tests.scoring import make_events, record_of, scoring_engine, scoring_pipeline, topic_of

PACKAGE = Path(stream_app.__file__).parent
STEPS = re.findall(r"^(\d+)\. `([\w/]+)\.py` - `(\w+)\.(\w+)`: ", stream_app.__doc__ or "", re.MULTILINE)
TRACED_FROM = 3  # before the handler an event passes Kafka and Faust
STAND_INS = {"RedisStore": MemoryStore}  # the reference implementation of the store's port


class DryPublisher(Publisher):
    """Fills record batches as the real one and sends none."""

    async def start(self) -> None:
        self._producer: Any = self

    async def stop(self) -> None:
        self._producer = None

    def create_batch(self) -> Any:
        return self

    def append(self, **_message: Any) -> bool:
        return True

    async def _deliver_in_order(self, batches_by_place: Mapping[tuple[str, int], list[Any]]) -> None:
        assert batches_by_place


def function_of(module: str, owner: str, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(getattr(importlib.import_module(f"stream_app.{module.replace('/', '.')}"), owner), name)
    return found


async def handle_one_batch(handler: ScoringHandler) -> None:
    events = [event for event in make_events(30, users=["u-1"], devices=["d"]) if topic_of(event) == "clicks"]
    records: list[Any] = [record_of(event, 0, offset) for offset, event in enumerate(events)]
    await handler.on_assigned(frozenset(TopicPartition(topic, 0) for topic in SOURCE_TOPICS), 1)
    await handler.handle([Chunk("clicks", 0, 0, len(records), 1, records)], OrderedCommitBarrier([]))
    await handler.close()


def test_the_list_is_numbered_and_has_at_most_twelve_files() -> None:
    assert [int(number) for number, *_ in STEPS] == list(range(1, len(STEPS) + 1))
    assert len({module for _, module, *_ in STEPS}) == len(STEPS) <= 12


def test_every_step_names_a_function_of_its_file() -> None:
    for _, module, owner, name in STEPS:
        assert (PACKAGE / f"{module}.py").is_file()
        assert inspect.getsourcefile(function_of(module, owner, name)) == str(PACKAGE / f"{module}.py")


def test_before_the_handler_each_step_is_reached_from_the_one_beside_it() -> None:
    assert ".fetch(" in inspect.getsource(ChunkConsumer._next_chunks)
    assert "_next_chunks()" in inspect.getsource(ChunkConsumer.getmany)
    assert "BatchScheduler(" in inspect.getsource(SourceAgent._scheduler_for)
    assert "self._handler.handle(" in inspect.getsource(BatchScheduler._handle)
    assert "_consumer.acknowledge(" in inspect.getsource(SourceAgent._acknowledge)


def test_a_batch_enters_the_functions_in_the_order_of_the_list() -> None:
    settings = Settings()
    demo = PACKAGE.parent / "model" / "artifacts" / "demo"
    settings = replace(settings, model=replace(settings.model, engine="onnxruntime", path=str(demo)))
    metrics = Metrics(CollectorRegistry())
    store = MemoryStore(1, wiring.shared_kinds(scoring_engine()))
    ranker = wiring._live_models(settings, scoring_engine(), metrics, "worker").ranker
    pipeline = scoring_pipeline(store, SettableClock(5), ranker=ranker)
    handler = ScoringHandler(
        pipeline=pipeline,
        ownership=OwnershipTracker(1),
        publisher=DryPublisher("", topic_prefix="", client_id=""),
        metrics=metrics,
        topic_prefix="",
        owner="w",
    )
    listed = [
        getattr(STAND_INS[owner], name) if owner in STAND_INS else function_of(module, owner, name)
        for _, module, owner, name in STEPS[TRACED_FROM:]
    ]
    place = {function.__code__: number for number, function in enumerate(listed)}
    entered: list[int] = []

    def note(frame: FrameType, event: str, _arg: object) -> None:
        if event == "call" and (number := place.get(frame.f_code)) is not None and number not in entered:
            entered.append(number)

    threading.setprofile(note)  # the model's thread begins with the first batch
    sys.setprofile(note)
    try:
        asyncio.run(handle_one_batch(handler))
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert isinstance(pipeline.model_thread, ThreadPoolExecutor)
    pipeline.model_thread.shutdown()
    assert entered == list(range(len(listed)))
