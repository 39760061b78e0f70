"""Computes the expected state and answers by brute force over the raw events, without the engine's arithmetic.

State is compared replica by replica and tile by tile, for every kind of entity. Values that depend on the cut of batches are left
out: commit numbers, and the session of an out-of-order event.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from model.contract import SEQUENCE_LENGTH
from stream_app.events import Event
from stream_app.features.columns.event_columns import EntityRows
from stream_app.features.engine import FeatureEngine
from stream_app.features.state.blobs import Replicas
from stream_app.store.port import Store
from tests.unit.stream_app.features.agreement import without_order
from verification.journal_audit import Journal
from verification.oracle.replay import Oracle

__all__ = ["AnswerLog", "check_answers", "check_journal", "check_states"]


async def check_states(
    store: Store, engine: FeatureEngine, id_key: bytes, events: Iterable[tuple[Event, int]], groups: int
) -> None:
    """Assert that the state of every entity in every group is that of each of its events applied once.

    Args:
        store: Where it is read; each group must see the other groups' replicas of shared entities as they are.
        engine: What describes it.
        id_key: The key of the identifiers.
        events: All events with the groups of their users.
        groups: How many there are.
    """
    oracle = Oracle(engine.catalogue, engine.allowed_lateness_ms, id_key)
    for event, group in sorted(events, key=lambda pair: pair[0].event_time_ms):
        oracle.add(event, group)
    every = np.arange(groups, dtype=np.int32)
    for kind in engine.kinds:
        keys = [key for kind_name, key in oracle.events if kind_name == kind.name]
        rows = EntityRows(np.repeat(every, len(keys)), keys * groups, np.zeros(0, np.int32))
        snapshot = await store.read({kind.name: rows})
        blobs = dict(zip([(group, key) for group in range(groups) for key in keys], snapshot.own[kind.name], strict=True))
        for (group, key), blob in blobs.items():
            entity = f"{kind.name} {key.hex()} of group {group}"
            if oracle.events_of(kind.name, key, group):
                _check_state(entity, oracle.state(kind.name, key, group), engine.describe(kind.name, blob or None))
            else:
                assert not blob, f"foreign: {entity} has state and no events"
        if kind.shared:
            _check_replicas(blobs, snapshot.others[kind.name])


def _check_state(entity: str, expected: dict[str, Any], stored: dict[str, Any]) -> None:
    for part, value in without_order(expected).items():
        counted = {ring: stored[part][ring] for ring in value} if part in ("tiles", "distinct") else stored[part]
        assert counted == value, f"miscounted: {part} of {entity} is {counted}, its events make {value}"
    times = sorted(entry["time_ms"] for entry in expected.get("sequence", ()))
    if len(times) < SEQUENCE_LENGTH:
        stored_times = sorted(entry["time_ms"] for entry in stored.get("sequence", ()))
        assert stored_times == times, f"miscounted: {entity}'s sequence holds {stored_times}, not {times}"


def _check_replicas(blobs: Mapping[tuple[int, bytes], bytes], others: Replicas) -> None:
    """Each group sees the other groups' replicas as they hold them."""
    replicas: dict[int, list[bytes]] = defaultdict(list)
    for row, blob in zip(others.of.tolist(), others.blobs, strict=True):
        replicas[row].append(blob)
    for row, (group, key) in enumerate(blobs):
        elsewhere = sorted(blob for (other, of), blob in blobs.items() if of == key and other != group and blob)
        assert sorted(replicas[row]) == elsewhere, f"missing: replicas of {key.hex()} that group {group} does not see"


AnswerLog = list[tuple[str, int, bytes | None, bytes]]  # topic, partition, key, value


def check_answers(expected: Mapping[str, Event], published: AnswerLog, *, decided_again: bool = False) -> None:
    """Assert that every event has its two answers, nothing else is there, and that what was repeated is the same to the byte.

    Args:
        expected: The events by the id of their answers.
        decided_again: Redis went back in time: what it forgot was decided a second time, and may differ in the time of scoring.
    """
    seen: dict[tuple[str, str], set[bytes]] = defaultdict(set)
    for topic, partition, key, value in published:
        if topic == "journal":
            continue
        answer = msgspec.json.decode(value)
        assert partition == answer["source"]["partition"], f"{topic} {answer['answer_id']} stands in partition {partition}"
        assert key == answer["user"].encode(), f"the key of {topic} {answer['answer_id']} is {key!r}"
        if decided_again:
            answer.pop("scored_time_ms")
        seen[topic, answer["answer_id"]].add(msgspec.json.encode(answer) if decided_again else value)
    answers = {(topic, identifier) for topic in ("intent-labels", "recommendation-candidates") for identifier in expected}
    missing, foreign = answers - seen.keys(), seen.keys() - answers
    assert not missing, f"missing: {len(missing)} answers were never published, as {sorted(missing)[:3]}"
    assert not foreign, f"foreign: {sorted(foreign)[:3]} belong to no event"
    differing = [identifier for identifier, values in seen.items() if len(values) > 1]
    assert not differing, f"differing: {len(differing)} answers were repeated with other bytes, as {sorted(differing)[:3]}"


def check_journal(ends: Mapping[tuple[str, int], int], published: AnswerLog) -> None:
    """Assert that the journal's lines, by commit number, cover each offset below `ends` once; repeats are the same bytes."""
    journal = Journal()
    for topic, _, _, value in published:
        if topic == "journal":
            journal.enter(value)
    faults = journal.faults(ends)
    assert not faults, f"miscounted: {faults[:3]}"
