"""Replay on several processes: the bytes of one process; a process that is killed ends the replay, and says so."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest

from stream_app.config import ModelSettings, Settings
from stream_app.errors import MillraceError, ServiceError
from stream_app.logs.log_source import chunks_of, open_log
from stream_app.replay.canonical import CanonicalReplay, ReplayBatch
from stream_app.replay.parallel.split_replay import SplitReplay
from stream_app.simulator.options import SimulatorOptions
from stream_app.simulator.shop import simulated_events
from tests.scoring import scoring_engine, topic_of
from tests.unit.stream_app.replay.test_canonical import SETTINGS, write_log

Messages = dict[str, list[tuple[bytes | None, bytes]]]


def outputs(batches: Iterable[ReplayBatch]) -> tuple[Messages, bytes]:
    """All messages by topic, and all features."""
    messages: Messages = {}
    features, position = [], 0
    for batch in batches:
        assert batch.first == position
        position = batch.end
        for topic, topic_messages in batch.messages.items():
            messages.setdefault(topic, []).extend(zip(topic_messages.keys, topic_messages.values, strict=True))
        if batch.scored is not None:
            inputs = batch.scored.folded.inputs()
            features += [
                b"".join(inputs[name][row].tobytes() for name in sorted(inputs)) for row in range(len(batch.decoded.events))
            ]
    return messages, b"".join(features)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A simulated shop's first hours: every kind of event, some of them twice, out of order; and lines that are no events."""
    options = SimulatorOptions(events=900, users=60, malformed_share=0.0)
    events = [simulated.event for simulated in simulated_events(options)]
    events += events[::30]
    assert {topic_of(event) for event in events} == {"clicks", "orders", "searches"}
    path = write_log(tmp_path / "log.jsonl", events)
    with path.open("ab") as file:
        file.write(b'{"topic":"clicks","key":"u-1","value":"{}","time_ms":%d}\n' % events[0].event_time_ms)
        file.write(b'{"topic":"orders","key":"u-1","value":"no json","time_ms":%d}\n' % events[500].event_time_ms)
    return path


def test_three_processes_give_the_bytes_of_one(log: Path) -> None:
    with CanonicalReplay(SETTINGS, scoring_engine()) as replay:
        expected = outputs(replay.batches(chunks_of(open_log([log]), 1_000)))
    assert sum(b"duplicate_of" in value for _, value in expected[0]["intent-labels"]) > 10
    assert len(expected[0]["dead-letters"]) == 2
    with SplitReplay(SETTINGS, 3) as split:
        assert outputs(split.batches(open_log([log]), 120)) == expected
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_ends_the_replay_with_a_message(log: Path) -> None:
    with SplitReplay(SETTINGS, 1) as split:
        batches = split.batches(open_log([log]), 50)
        next(batches)
        [child] = multiprocessing.active_children()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(ServiceError, match="exit status -9"):
            list(batches)
    assert not multiprocessing.active_children()


def test_what_a_process_cannot_do_is_the_replays_error(log: Path) -> None:
    settings = Settings(model=ModelSettings(engine="onnxruntime", path=str(log.parent / "no-model")))
    with SplitReplay(settings, 1) as split, pytest.raises(MillraceError, match="no-model"):
        list(split.batches(open_log([log]), 50))
