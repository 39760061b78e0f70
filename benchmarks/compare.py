"""Two sets of entity states side by side: every key accounted for, every ring, time and sequence compared.

A key that is missing, or that nobody should have written, is a difference, as is a wrong number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.oracle import Entity, Ring, State, sequence_fault

__all__ = ["Comparison", "compare_states"]

_EXAMPLES = 10


@dataclass(slots=True)
class Comparison:
    """What was compared, and what differs.

    Attributes:
        keys: Distinct entity keys, of either side.
        values: Sums, bitmaps and times that were compared.
        sequences: Sequences that were compared, all of them entry by entry.
        sequences_of_one_topic: Those of them in which order of arrival is fixed from first to last.
        differences: Keys with at least one difference.
        examples: The first differences, for people.
    """

    keys: int = 0
    values: int = 0
    sequences: int = 0
    sequences_of_one_topic: int = 0
    differences: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, entity: Entity, faults: list[str]) -> None:
        """Count a key with its faults."""
        self.keys += 1
        if faults:
            self.differences += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(f"{entity}: {'; '.join(faults)[:500]}")


def compare_states(expected: Mapping[Entity, State], found: Mapping[Entity, State]) -> Comparison:
    """Compare what must be there with what is."""
    result = Comparison()
    for entity, should in expected.items():
        there = found.get(entity)
        result.note(entity, ["no such key in the store"] if there is None else _faults(should, there, result))
    for entity in found.keys() - expected.keys():
        result.note(entity, ["no event has this key, but the store does"])
    return result


def _faults(should: State, there: State, result: Comparison) -> list[str]:
    faults = []
    for name, a, b in (("newest_ms", should.newest_ms, there.newest_ms), ("first_ms", should.first_ms, there.first_ms)):
        result.values += 1
        if a != b:
            faults.append(f"{name} {b}, not {a}")
    for name in sorted(should.rings.keys() | there.rings.keys()):
        faults += _ring_faults(name, should.rings.get(name, {}), there.rings.get(name, {}), result)
    if should.arrivals:
        result.sequences += 1
        result.sequences_of_one_topic += len(should.arrivals) == 1
        fault = sequence_fault(should.arrivals, there.sequence)
        if fault:
            faults.append(f"sequence: {fault}")
    elif there.sequence:
        faults.append("a sequence where there is none")
    return faults


def _ring_faults(name: str, should: Ring, there: Ring, result: Comparison) -> list[str]:
    tiles = should.keys() | there.keys()
    result.values += len(tiles)
    return [
        f"{name} at {tile}: {there.get(tile, 0)}, not {should.get(tile, 0)}"
        for tile in sorted(tiles)
        if should.get(tile, 0) != there.get(tile, 0)
    ]
