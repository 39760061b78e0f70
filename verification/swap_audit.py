"""Whether swaps of the model show in the answers as they may: each commit is of one champion, as the journal says, and whole.

`mixed` counts every answer that says another version than the journal's line of the commit that its event was applied in, and
every change of champion in a group beyond those of the registry. Repeats of an event that its producer sent before are left
out: they say again what was said then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import groupby

import msgspec

__all__ = ["SwapAudit"]


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
        """Return for each group its champions in the order of its commits, each named once for each time it came."""
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
        """Count what should not be, by kind.

        Args:
            swaps: How often the registry's champion changed.
        """
        found: Counter[str] = Counter()
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
                found["answers without a commit"] += 1
            elif answer.model_version not in {ranges[at][2].model_version, *ranges[at][2].challengers}:
                found["answers of another model than their commit's"] += 1
        for versions in self.versions().values():
            if len(versions) - 1 > swaps:
                found["changes that the registry did not ask for"] += len(versions) - 1 - swaps
        return found
