"""The worker of `millrace worker` with faults: it kills itself at a chosen point, or is slow, or has no fence.

Settings come from the environment, as for any worker.
Usage: python -m tests.chaos.chaos_worker '{"kill": ["commit-after", 2], ...}'

    kill      [point, n]: SIGKILL at the n-th pass of this point; points: see `_arm`
    delay_s   how long the model takes for a batch
    limit_s   with `delay_s`: the time limit of a model call; beyond it the answers are degraded
    fence     false: the store takes every step and keeps no position
    refused   true: the broker refuses every answer
    options   changes to `AgentOptions`
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_app import wiring
from stream_app.agents.consumer_thread import ChunkThread
from stream_app.agents.handler import ScoringHandler
from stream_app.agents.ports import TopicPartition
from stream_app.agents.run import run_sources
from stream_app.codec.outbox import Messages
from stream_app.config import Settings, load_settings
from stream_app.errors import ContractError
from stream_app.inference.degrade import DegradingRanker
from stream_app.pipeline import Ranker
from stream_app.ranked import ModelNorms, RankedBatch
from tests.chaos.unfenced import UnfencedStore


class Fuse:
    """Kills the process when `point` is passed for the n-th time."""

    def __init__(self, point: str, times: int) -> None:
        self._point, self._left = point, times

    def passing(self, point: str) -> None:
        """Say that the process is at `point`."""
        if point == self._point:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, step: str, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Wrap a coroutine function with the points `<step>-before` and `<step>-after`."""

        async def wrapped(*arguments: Any) -> Any:
            self.passing(f"{step}-before")
            result = await function(*arguments)
            self.passing(f"{step}-after")
            return result

        return wrapped


def _arm(handler: ScoringHandler, fuse: Fuse) -> None:
    store, publisher = handler._store, handler._publisher
    for step in ("read", "commit", "mark_published"):
        setattr(store, step, fuse.around(step, getattr(store, step)))
    publish = publisher.publish

    async def publish_with_points(groups: Iterable[tuple[int, Mapping[str, Messages]]]) -> dict[str, int]:
        groups = list(groups)
        if fuse._point == "publish-half" and fuse._left == 1:
            group, topics = groups[0]
            await publish([(group, dict(list(topics.items())[:1]))])
        fuse.passing("publish-half")
        counts = await publish(groups)
        fuse.passing("publish-after")
        return counts

    publisher.publish = publish_with_points  # type: ignore[method-assign]  # the very method, with points in it
    handler.handle = fuse.around("handle", handler.handle)  # type: ignore[method-assign,assignment]  # as above
    commit_offsets = ChunkThread._commit

    async def commit_with_points(self: ChunkThread, offsets: Any) -> bool:
        fuse.passing("offsets-before")
        done = await commit_offsets(self, offsets)
        fuse.passing("offsets-after")
        return done

    ChunkThread._commit = commit_with_points  # type: ignore[method-assign]  # as above


class SlowRanker:
    """Takes its time; a `Ranker`, and a `Degradable`."""

    norms = ModelNorms("none", 2.0, np.zeros(0, np.float32), np.ones(0, np.float32))

    def __init__(self, ranker: Ranker, delay_s: float) -> None:
        self._ranker, self._delay_s = ranker, delay_s
        self.version = self.serves = ranker.version

    def rank(self, inputs: Mapping[str, NDArray[Any]], users: Sequence[bytes]) -> RankedBatch:
        """Wait, then rank. A computation stands while its process does, a long sleep would not."""
        logging.info("the model is asked")
        for _ in range(20):
            time.sleep(self._delay_s / 20)
        return self._ranker.rank(inputs, users)


class UnfencedHandler(ScoringHandler):
    """Knows no position but Kafka's."""

    async def on_assigned(self, partitions: frozenset[TopicPartition], generation: int) -> Mapping[TopicPartition, int]:
        """Claim, and forget the fronts."""
        await super().on_assigned(partitions, generation)
        return {}


def _without_fence(handler: ScoringHandler, settings: Settings) -> None:
    kinds = wiring.shared_kinds(handler._pipeline.engine)
    groups = settings.kafka.partitions
    handler._store = UnfencedStore(settings.redis.url, prefix=settings.redis.prefix, groups=groups, shared_kinds=kinds)
    handler._pipeline = replace(handler._pipeline, store=handler._store)
    handler.__class__ = UnfencedHandler


async def _refuse(groups: Iterable[tuple[int, Mapping[str, Messages]]]) -> dict[str, int]:
    raise ContractError(f"the broker refuses {len(list(groups))} groups, on purpose")


def main(argument: str) -> int:
    """Run the worker that the JSON argument describes."""
    chaos = json.loads(argument)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s %(levelname)s %(message)s")
    settings = load_settings()
    worker = wiring.build_worker(settings)
    handler = worker.handler
    if not chaos.get("fence", True):
        _without_fence(handler, settings)
    if chaos.get("delay_s"):
        slow = SlowRanker(handler._pipeline.ranker, chaos["delay_s"])
        limited = DegradingRanker(slow, chaos["limit_s"], handler._metrics) if "limit_s" in chaos else slow
        handler._pipeline = replace(handler._pipeline, ranker=limited)
    if chaos.get("refused"):
        handler._publisher.publish = _refuse  # type: ignore[method-assign]  # in place of the very method
    _arm(handler, Fuse(*chaos.get("kill", ("", 0))))
    options = replace(worker.options, **{"commit_interval_ms": 200, **chaos.get("options", {})})
    return run_sources(options, handler, handler, handler.close)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
