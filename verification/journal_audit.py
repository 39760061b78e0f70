"""Check the journal: the commits of each partition group cover every offset once, without hole or overlap.

A line that is published again after a crash must equal the first one.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class _Line(msgspec.Struct):
    group: int
    commit: int
    ranges: dict[str, tuple[int, int]]


class Journal:
    """The lines of one run."""

    def __init__(self, topic_prefix: str = "") -> None:
        self._prefix = topic_prefix
        self._lines: dict[tuple[int, int], bytes] = {}
        self._ranges: dict[tuple[int, int], dict[str, tuple[int, int]]] = {}
        self._faults: list[str] = []
        self._decode = msgspec.json.Decoder(_Line).decode

    def enter(self, value: bytes) -> None:
        """Enter one record of the topic."""
        try:
            line = self._decode(value)
        except msgspec.MsgspecError as err:
            self._faults.append(f"unreadable journal line ({err}): {value[:200]!r}")
            return
        first = self._lines.setdefault((line.group, line.commit), value)
        if first != value:
            self._faults.append(f"group {line.group}, commit {line.commit} has two lines: {first!r} and {value!r}")
        ranges = {topic.removeprefix(self._prefix): offsets for topic, offsets in line.ranges.items()}
        self._ranges.setdefault((line.group, line.commit), ranges)

    def commits(self) -> int:
        """Return how many different commits there are."""
        return len(self._lines)

    def faults(self, ends: Mapping[tuple[str, int], int]) -> list[str]:
        """Return where the commits do not cover [0, end) of every (topic, partition), in order and once."""
        faults = list(self._faults)
        reached: dict[tuple[str, int], int] = {}
        for (group, commit), ranges in sorted(self._ranges.items()):
            for topic, (start, end) in ranges.items():
                at = reached.get((topic, group), 0)
                if start != at:
                    faults.append(f"group {group}, commit {commit}: {topic} from {start}, but {at} was reached before")
                reached[topic, group] = end
        faults += [
            f"the journal ends at {reached.get(where, 0)} of {where}, which has {ends.get(where, 0)} records"
            for where in sorted(ends.keys() | reached.keys())
            if reached.get(where, 0) != ends.get(where, 0)
        ]
        return faults
