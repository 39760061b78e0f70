"""Compare the stored state of every entity with the events that it must have counted, part by part.

A missing key and a key of no event are differences, as is a wrong number. Stored states are in the form of
`FeatureEngine.describe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from verification.arrival_order import arrival_order, sequence_fault, session_fault
from verification.oracle.replay import Entity, EntityLog

_EXAMPLES = 10


@dataclass(slots=True)
class StateComparison:
    """How much was compared, and the differences.

    Attributes:
        keys: Distinct entity keys, of either side.
        values: Cells of tiles, sets, last values, histograms, sessions and times that were compared.
        sequences: Sequences that were compared, all of them entry by entry.
        sequences_of_one_topic: Those of them in which order of arrival is fixed from first to last.
        sessions: Sessions that were compared.
        sessions_of_known_order: Those of them that were compared whole; of the others only the last event's time.
        differences: Keys with at least one difference.
        examples: The first differences, for people.
    """

    keys: int = 0
    values: int = 0
    sequences: int = 0
    sequences_of_one_topic: int = 0
    sessions: int = 0
    sessions_of_known_order: int = 0
    differences: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, entity: Entity, faults: list[str]) -> None:
        """Count a key with its faults."""
        self.keys += 1
        if faults:
            self.differences += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(f"{entity}: {'; '.join(faults)[:500]}")


def compare_states(expected: Mapping[Entity, EntityLog], stored: Mapping[Entity, Mapping[str, Any]]) -> StateComparison:
    """Compare what must be in the store with what is."""
    result = StateComparison()
    for entity, log in expected.items():
        state = stored.get(entity)
        result.note(entity, ["no such key in the store"] if state is None else _faults(log, state, result))
    for entity in stored.keys() - expected.keys():
        result.note(entity, ["no event has this key, but the store does"])
    return result


def _faults(log: EntityLog, state: Mapping[str, Any], result: StateComparison) -> list[str]:
    expected = log.kind.describe(log.events)
    faults = []
    for name in ("newest_ms", "first_ms"):
        result.values += 1
        if expected[name] != state[name]:
            faults.append(f"{name} {state[name]}, not {expected[name]}")
    for part, prefix in (("tiles", ""), ("distinct", "distinct ")):
        for name in sorted(expected[part].keys() | state[part].keys()):
            faults += _mapping_faults(f"{prefix}{name}", expected[part].get(name, {}), state[part].get(name, {}), result)
    for part in ("last", "histograms"):
        faults += _mapping_faults(part, expected.get(part, {}), state.get(part, {}), result)
    faults += _session_faults(log, state, result)
    return faults + _sequence_faults(log, expected, state, result)


def _session_faults(log: EntityLog, state: Mapping[str, Any], result: StateComparison) -> list[str]:
    if not log.kind.kind.session_gap_ms:
        return [] if state.get("session") is None else ["a session where there is none"]
    result.sessions += 1
    result.values += 1
    result.sessions_of_known_order += arrival_order(log, state) is not None
    fault = session_fault(log, state)
    return [f"session: {fault}"] if fault else []


def _sequence_faults(log: EntityLog, expected: Mapping[str, Any], state: Mapping[str, Any], result: StateComparison) -> list[str]:
    if not log.kind.kind.sequence:
        return ["a sequence where there is none"] if state.get("sequence") or state.get("queries") else []
    topics = log.by_topic()
    result.sequences += 1
    result.sequences_of_one_topic += len(topics) == 1
    faults = []
    fault = sequence_fault(topics, state["sequence"])
    if fault:
        faults.append(f"sequence: {fault}")
    commits = [entry["commit"] for entry in state["sequence"]]
    if commits != sorted(commits):
        faults.append(f"sequence: commits {commits} do not rise in order of arrival")
    if expected["queries"] != state["queries"]:
        faults.append(f"queries {state['queries']}, not {expected['queries']}")
    return faults


def _mapping_faults(name: str, expected: Mapping[Any, Any], stored: Mapping[Any, Any], result: StateComparison) -> list[str]:
    places = expected.keys() | stored.keys()
    result.values += len(places)
    return [
        f"{name} at {place}: {stored.get(place)}, not {expected.get(place)}"
        for place in sorted(places)
        if expected.get(place) != stored.get(place)
    ]
