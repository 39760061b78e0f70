"""Two sets of entity states side by side: every key accounted for, every part of the state compared.

A key that is missing, or that nobody should have written, is a difference, as is a wrong number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from verification.arrival_order import order_of, sequence_fault, session_fault
from verification.oracle import Entity, OracleState

__all__ = ["StateComparison", "compare_states"]

_EXAMPLES = 10


@dataclass(slots=True)
class StateComparison:
    """What was compared, and what differs.

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


def compare_states(expected: Mapping[Entity, OracleState], found: Mapping[Entity, OracleState]) -> StateComparison:
    """Compare what must be there with what is."""
    result = StateComparison()
    for entity, should in expected.items():
        there = found.get(entity)
        result.note(entity, ["no such key in the store"] if there is None else _faults(should, there, result))
    for entity in found.keys() - expected.keys():
        result.note(entity, ["no event has this key, but the store does"])
    return result


def _faults(should: OracleState, there: OracleState, result: StateComparison) -> list[str]:
    faults = []
    for name, a, b in (("newest_ms", should.newest_ms, there.newest_ms), ("first_ms", should.first_ms, there.first_ms)):
        result.values += 1
        if a != b:
            faults.append(f"{name} {b}, not {a}")
    for name in sorted(should.rings.keys() | there.rings.keys()):
        faults += _mapping_faults(name, should.rings.get(name, {}), there.rings.get(name, {}), result)
    for name in sorted(should.sets.keys() | there.sets.keys()):
        faults += _mapping_faults(f"distinct {name}", should.sets.get(name, {}), there.sets.get(name, {}), result)
    faults += _mapping_faults("last", should.lasts, there.lasts, result)
    faults += _mapping_faults("histogram", should.histograms, there.histograms, result)
    faults += _session_faults(should, there, result)
    return faults + _sequence_faults(should, there, result)


def _session_faults(should: OracleState, there: OracleState, result: StateComparison) -> list[str]:
    if not should.visits:
        return [] if there.session is None else ["a session where there is none"]
    result.sessions += 1
    result.values += 1
    result.sessions_of_known_order += order_of(should, there) is not None
    fault = session_fault(should, there)
    return [f"session: {fault}"] if fault else []


def _sequence_faults(should: OracleState, there: OracleState, result: StateComparison) -> list[str]:
    if not should.arrivals:
        return ["a sequence where there is none"] if there.sequence or there.queries else []
    result.sequences += 1
    result.sequences_of_one_topic += len(should.arrivals) == 1
    faults = []
    fault = sequence_fault(should.arrivals, there.sequence)
    if fault:
        faults.append(f"sequence: {fault}")
    if there.commits != sorted(there.commits):
        faults.append(f"sequence: commits {there.commits} do not rise in order of arrival")
    if should.queries != there.queries:
        faults.append(f"queries {there.queries}, not {should.queries}")
    return faults


def _mapping_faults(name: str, should: Mapping[Any, object], there: Mapping[Any, object], result: StateComparison) -> list[str]:
    places = should.keys() | there.keys()
    result.values += len(places)
    return [
        f"{name} at {place}: {there.get(place)}, not {should.get(place)}"
        for place in sorted(places)
        if should.get(place) != there.get(place)
    ]
