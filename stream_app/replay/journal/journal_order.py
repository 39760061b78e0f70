"""A serial order of the reads and commits of a recorded run.

    commit n of a group comes after its read, and after all reads that saw the group at n - 1
    a read comes after the commits that it saw, and before the next one of each of these groups

A live run on one Redis server has such an order: the one in which the server executed the scripts. The search is deterministic:
it returns the same order from every starting point.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from stream_app.errors import InputFileError
from stream_app.events import JournalLine

Commit = tuple[int, int]  # group, number


def serial_order(
    lines: Mapping[Commit, JournalLine], start: Mapping[int, int], open_reads: Collection[Commit] = ()
) -> Iterator[tuple[str, Commit]]:
    """Order reads and commits: yields ("read", line) and ("commit", line).

    A read that saw a group before its start is placed as if it had seen the group at its start: the older state is not available.

    Args:
        lines: The journal after `start`.
        start: Group -> commit number of the initial state.
        open_reads: Commits whose read was already replayed.

    Raises:
        InputFileError: A commit is missing, or there is no such order.
    """
    reads = {commit: seen_by(line, start) for commit, line in lines.items()}
    groups = sorted({group for group, _ in lines})
    last = {group: max(number for other, number in lines if other == group) for group in groups}
    committed = {group: start.get(group, 0) for group in {*groups, *(other for seen in reads.values() for other in seen)}}
    read = {group: committed[group] + ((group, committed[group] + 1) in open_reads) for group in groups}
    for group in groups:
        missing = [n for n in range(committed[group] + 1, last[group] + 1) if (group, n) not in lines]
        if missing:
            raise InputFileError(
                f"the journal of group {group} lacks commit {missing[0]} ({len(missing)} of {last[group]} are missing): record "
                "the run from its beginning, or begin with a snapshot taken behind it (--from-snapshot)"
            )
    while any(committed[group] < last[group] for group in groups):
        step = _next_step(groups, last, committed, read, reads)
        if step is None:
            waiting = {group: reads[group, read[group] + 1] for group in groups if (group, read[group] + 1) in reads}
            raise InputFileError(
                f"no order of the journal's commits gives every read what it saw. Committed: {committed}; the next reads of the "
                f"groups saw {waiting}. A Redis Cluster reads its nodes one after the other, and a journal may then have no order"
            )
        kind, (group, number) = step
        (read if kind == "read" else committed)[group] = number
        yield step


def seen_by(line: JournalLine, start: Mapping[int, int]) -> dict[int, int]:
    """Return the commit of each group that the line's read saw, at least the group's start."""
    return {int(other): max(seen, start.get(int(other), 0)) for other, seen in line.reads.items()}


def is_settled(line: JournalLine, start: Mapping[int, int]) -> bool:
    """Return whether the line's read saw no group before its start, so that the state it saw is available."""
    return all(seen >= start.get(int(other), 0) for other, seen in line.reads.items())


def _next_step(
    groups: Sequence[int], last: Mapping[int, int], committed: Mapping[int, int], read: Mapping[int, int],
    reads: Mapping[Commit, Mapping[int, int]],
) -> tuple[str, Commit] | None:  # fmt: skip
    for group in groups:
        number = committed[group] + 1
        if number > last[group]:
            continue
        if read[group] < number:
            if all(committed[other] == seen for other, seen in reads[group, number].items()):
                return "read", (group, number)
        elif all(_has_moved_on(reads.get((other, read[other] + 1)), group, number) for other in groups if other != group):
            return "commit", (group, number)
    return None


def _has_moved_on(seen: Mapping[int, int] | None, group: int, number: int) -> bool:
    """Return whether no pending read of a group needs the state before this commit."""
    return seen is None or seen.get(group, number) >= number
