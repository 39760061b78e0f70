"""Check the answers of a run with swaps of the model: all answers of a commit come from the champion that the journal names.

`mixed` counts every answer with another version than the journal's line of the commit that applied its event, and every change of
champion in a group beyond those of the registry. Answers to an event that its producer sent twice are left out: they repeat the
first answer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import groupby

import msgspec


class _Line(msgspec.Struct):
    group: int
    commit: int
    ranges: dict[str, tuple[int, int]]
    model_version: str
    challengers: dict[str, float] = {}
    degraded: bool = False


class _Source(msgspec.Struct):
    topic: str
    partition: int
    offset: int


class _Answer(msgspec.Struct):
    source: _Source
    model_version: str
    duplicate_of: str = ""
    degraded: bool = False


class SwapAudit:
    """The journal and the answers of one run."""

    def __init__(self) -> None:
        self._lines: dict[tuple[int, int], _Line] = {}
        self._answers: list[_Answer] = []
        self._line = msgspec.json.Decoder(_Line).decode
        self._answer = msgspec.json.Decoder(_Answer).decode

    def enter_line(self, value: bytes) -> None:
        """Enter one record of the journal."""
        line = self._line(value)
        self._lines[line.group, line.commit] = line

    def enter_answer(self, value: bytes) -> None:
        """Enter one answer, of any topic."""
        self._answers.append(self._answer(value))

    def versions(self) -> Mapping[int, list[str]]:
        """Return for each group its champions in the order of its commits, each once for every time it became champion."""
        in_order = [line for _, line in sorted(self._lines.items())]
        return {
            group: [version for version, _ in groupby(lines, key=lambda line: line.model_version)]
            for group, lines in groupby(in_order, key=lambda line: line.group)
        }

    def swaps_seen(self) -> int:
        """Return the most changes of the champion that any group's commits show."""
        return max((len(versions) - 1 for versions in self.versions().values()), default=0)

    def degraded(self) -> int:
        """Return how many answers were made without a model."""
        return sum(answer.degraded for answer in self._answers)

    def mixed(self, swaps: int) -> Counter[str]:
        """Count the faults, by kind.

        Args:
            swaps: How often the registry's champion changed.
        """
        faults: Counter[str] = Counter()
        applied: dict[tuple[str, int], list[tuple[int, int, _Line]]] = defaultdict(list)
        for _, line in sorted(self._lines.items()):
            for topic, (start, end) in line.ranges.items():
                applied[topic, line.group].append((start, end, line))
        for answer in self._answers:
            if answer.duplicate_of:
                continue
            ranges = applied[answer.source.topic, answer.source.partition]
            at = bisect_right(ranges, answer.source.offset, key=lambda entry: entry[0]) - 1
            if at < 0 or not ranges[at][0] <= answer.source.offset < ranges[at][1]:
                faults["answers without a commit"] += 1
            elif answer.model_version not in {ranges[at][2].model_version, *ranges[at][2].challengers}:
                faults["answers of another model than their commit's"] += 1
        for versions in self.versions().values():
            if len(versions) - 1 > swaps:
                faults["changes that the registry did not ask for"] += len(versions) - 1 - swaps
        return faults
