"""State that stays in memory against the engine with blobs: the same features and blobs, however little of it may be hot."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.events import Event, Search
from stream_app.features.catalog import CATALOGUE
from stream_app.features.columns.event_columns import EventColumns
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldResult
from stream_app.features.state.blobs import Blobs
from stream_app.privacy import Pseudonymizer
from stream_app.replay.memory_state import MemoryState
from tests.unit.stream_app.features.cases import DAY_MS, KEY, LATENESS_MS, NOON, Run, engine_of, event_of, logs, tensors
from tests.unit.stream_app.features.catalogue_for_tests import EVERYTHING

CATALOGUES = {"everything": EVERYTHING, "shipped": CATALOGUE}
IDENTITY = Pseudonymizer(KEY)


def in_order(log: Sequence[Event]) -> list[Event]:
    return sorted(log, key=lambda event: event.event_time_ms)


def cut(engine: FeatureEngine, log: Sequence[Event], size: int) -> Iterator[tuple[EventColumns, np.ndarray]]:
    """Columns of batches, with the events' running numbers."""
    for first in range(0, len(log), size):
        batch = log[first : first + size]
        yield engine.columns(batch, [0] * len(batch), IDENTITY), first + 1 + np.arange(len(batch), dtype=np.int64)


@dataclass
class Forgetful(Run):
    """The engine over blobs, one event at a time, each blob deleted once its entity has been silent for longer than it lives."""

    newest_ms: dict[tuple[str, bytes], int] = field(default_factory=dict)
    count: int = 0

    def one(self, event: Event) -> FoldResult:
        columns = self.engine.columns([event], [0], IDENTITY)
        for kind in self.engine.kinds:
            key = columns.keys[kind.name][0]
            newest_ms = self.newest_ms.get((kind.name, key))
            if newest_ms is not None and event.event_time_ms - newest_ms > kind.ttl_ms:
                self.blobs[kind.name].pop((0, key), None)
        self.steps[0] = self.count
        self.count += 1
        result = self.batch([event])
        for kind in self.engine.kinds:
            if result.touched[kind.name].any():
                self.newest_ms[kind.name, columns.keys[kind.name][0]] = event.event_time_ms
        return result


@pytest.mark.parametrize("which", CATALOGUES)
@settings(deadline=None, max_examples=40)
@given(log=logs(), size=st.sampled_from([1, 7, 40]), hot_bytes=st.sampled_from([1, 60_000, 1 << 24]))
def test_features_and_state_are_those_of_blobs_read_and_written_event_by_event(
    which: str, log: list[Event], size: int, hot_bytes: int
) -> None:
    log = in_order(log)
    engine = engine_of(CATALOGUES[which], LATENESS_MS)
    oracle, state = Forgetful(engine), MemoryState(engine, hot_bytes=hot_bytes)
    expected = tensors([oracle.one(event) for event in log])
    found = tensors([state.fold(columns, commits) for columns, commits in cut(engine, log, size)])
    for name, tensor in expected.items():
        assert found[name].tobytes() == tensor.tobytes(), name
    for kind in engine.kinds:
        packed = {key: blob for keys, blobs in state.packed(kind.name, 3) for key, blob in zip(keys, blobs, strict=True)}
        assert packed == {key: blob for (_, key), blob in oracle.blobs[kind.name].items()}


@pytest.mark.parametrize("which", CATALOGUES)
@settings(deadline=None, max_examples=20)
@given(log=logs(), size=st.sampled_from([1, 7, 40]), hot_bytes=st.sampled_from([1, 60_000, 1 << 24]))
def test_two_threads_fold_what_one_folds(which: str, log: list[Event], size: int, hot_bytes: int) -> None:
    engine = engine_of(CATALOGUES[which], LATENESS_MS)
    batches = list(cut(engine, in_order(log), size))
    one, two = MemoryState(engine, hot_bytes=hot_bytes), MemoryState(engine, hot_bytes=hot_bytes)
    expected = [one.fold(columns, commits) for columns, commits in batches]
    found = list(two.folds(iter(batches)))
    assert len(found) == len(expected)
    for name, tensor in tensors(expected).items():
        assert tensors(found)[name].tobytes() == tensor.tobytes(), name
    assert two.entities() == one.entities()


def test_what_fails_in_the_other_thread_fails_here_and_leaves_no_thread() -> None:
    engine = engine_of(CATALOGUE, LATENESS_MS)
    (columns, commits), _ = cut(engine, [event_of(number, NOON, f"e{number}") for number in range(2)], 1)
    broken = dataclasses.replace(columns, keys={})
    folds = MemoryState(engine).folds(iter([(columns, commits), (broken, commits), (columns, commits)]))
    next(folds)
    with pytest.raises(KeyError):
        list(folds)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("millrace-fold")]


@pytest.mark.parametrize("size", [1, 2, 40])
def test_a_repeated_event_that_names_another_entity_does_not_keep_that_one_alive(size: int) -> None:
    engine = engine_of(CATALOGUE, LATENESS_MS)
    [device] = [kind for kind in engine.kinds if kind.name == "device"]
    later = NOON + device.ttl_ms
    log: list[Event] = [
        Search(event_id="a", user="v", event_time_ms=NOON, query="q", device="d"),
        Search(event_id="b", user="u", event_time_ms=later - 1_000, query="q"),
        Search(event_id="b", user="u", event_time_ms=later - 1_000, query="q", device="d"),  # a duplicate, with another device
        Search(event_id="c", user="w", event_time_ms=later + 4_000, query="q", device="d"),
    ]
    oracle = Forgetful(engine)
    expected = tensors([oracle.one(event) for event in log])
    state = MemoryState(engine)
    found = tensors([state.fold(columns, commits) for columns, commits in cut(engine, log, size)])
    assert found["dense"].tobytes() == expected["dense"].tobytes()


def test_state_that_was_packed_and_loaded_elsewhere_goes_on_as_if_nothing_had_been() -> None:
    engine = engine_of(CATALOGUE, LATENESS_MS)
    log = [event_of(7_919 * number, NOON + 60_000 * number, f"e{number}") for number in range(200)]
    first, second = list(cut(engine, log, 100))
    whole, before, after = MemoryState(engine), MemoryState(engine), MemoryState(engine)
    whole.fold(*first)
    before.fold(*first)
    after.fold(*first)  # what was there of the same entities is replaced
    for kind in engine.kinds:
        for keys, blobs in before.packed(kind.name):
            after.load(kind.name, keys, Blobs.of(list(blobs)))
    assert tensors([after.fold(*second)])["dense"].tobytes() == tensors([whole.fold(*second)])["dense"].tobytes()
    assert after.entities() == whole.entities()


def test_who_is_silent_for_longer_than_a_state_lives_is_swept_out_of_the_memory() -> None:
    engine = engine_of(CATALOGUE, LATENESS_MS)
    state = MemoryState(engine, ("user", "session"), hot_bytes=1 << 22)
    per_day = 6_000
    for day in range(8):
        log = [event_of(0, NOON + 2 * day * DAY_MS + 1_000 * number, f"e{day}-{number}") for number in range(per_day)]
        batch = [_with_session(event, f"s{day}-{number}") for number, event in enumerate(log)]
        columns = engine.columns(batch, [0] * per_day, IDENTITY)
        state.fold(columns)
    assert state.entities()["user"] == 1
    assert state.entities()["session"] < 5 * per_day  # of 8 x 6,000, of which all but the last day's are forgotten


def _with_session(event: Event, session: str) -> Event:
    return msgspec.structs.replace(event, session=session)
