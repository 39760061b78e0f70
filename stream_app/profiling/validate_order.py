"""What a log holds twice, and what comes too late: found for certain, however far apart, by sorting (`validate_sorted`).

Names and users are compared by hashes: of 126 bits for names, so that no two of a log are ever mistaken for each other, of 63 for
users.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from contextlib import ExitStack
from hashlib import blake2b
from typing import Final

from stream_app.profiling.validate_counts import hash64
from stream_app.profiling.validate_findings import PLACES, Finding, Tally, lasting
from stream_app.profiling.validate_sorted import SortedRows

__all__ = ["FarApart", "late_of", "repeats_of"]

_MASK: Final = (1 << 63) - 1

Found = tuple[int, list[tuple[int, int]]]


class FarApart:
    """Events by name and by user. Use it as a context: it keeps files.

    Args:
        allowed_lateness_ms: An event this much older than its user's newest so far is late.
    """

    def __init__(self, allowed_lateness_ms: int) -> None:
        self._lateness_ms = allowed_lateness_ms
        with ExitStack() as stack:
            self._names, self._users = stack.enter_context(SortedRows(4)), stack.enter_context(SortedRows(3))
            self._files = stack.pop_all()

    def __enter__(self) -> FarApart:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the files."""
        self._files.close()

    def name(self, number: int, name: str, content: str) -> None:
        """Take what tells an event from others, and what it is; `number` is its place in the file."""
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        halves = (int.from_bytes(digest[:8], "little") & _MASK, int.from_bytes(digest[8:], "little") & _MASK)
        self._names.add((*halves, hash64(content) & _MASK, number))

    def user(self, number: int, user: str, time_ms: int) -> None:
        """Take whose event it is, and when it happened; numbers ascend."""
        self._users.add((hash64(user) & _MASK, number, time_ms))

    def findings(self, unit: str, *, in_order: bool) -> list[Finding]:
        """Return what was found.

        Args:
            unit: What numbers count, `line` or `row`.
            in_order: Whether no event was older than one before it: then none can be late.
        """
        found: list[Finding] = []
        if not in_order:
            late, worst_ms = late_of(self._users.rows(), self._lateness_ms)
            found += Tally(late[0], [f"{unit} {number}" for number, _ in late[1]], worst_ms).finding(
                "order", "warning",
                f"{{count}} events come more than the allowed lateness ({lasting(self._lateness_ms)}) after a newer one of "
                "their user, by up to {worst}: a worker would send them to late-events",
                "sort the log by time before importing it, or raise features.allowed_lateness_ms",
            )  # fmt: skip
        twice, reused = (
            Tally(count, [f"{unit} {number} (first: {unit} {first})" for number, first in places])
            for count, places in repeats_of(self._names.rows())
        )
        found += twice.finding(
            "duplicates", "warning", "{count} events are there twice (same topic, id, user and time)",
            "find out why they were sent again: Millrace answers the second with the first one's answers, other tools count it",
        )  # fmt: skip
        found += reused.finding(
            "duplicates", "warning", "{count} events have the id of another event (same topic, another user or time)",
            "give every event an id of its own: answers and labels are joined by it",
        )  # fmt: skip
        return found


def repeats_of(rows: Iterable[list[int]]) -> tuple[Found, Found]:
    """Find events that are there twice, and events that have the name of another one.

    Args:
        rows: [name, name, content, number], in order.

    Returns:
        How many events repeat one of the same name and content before them, and the first of them: (number, number of the first
        such event). The same of events that are the first ones of their content, but not of their name.
    """
    twice, reused = _Fewest(), _Fewest()
    name, content, first = (-1, -1), -1, -1
    firsts: list[tuple[int, int]] = []  # of each content of this name, the lowest of them
    contents = 0
    for one, two, what, number in rows:
        if (one, two) == name and what == content:
            twice.add(number, first)
            continue
        if (one, two) != name:
            reused.take(firsts, contents)
            name, firsts, contents = (one, two), [], 0
        content, first = what, number
        contents += 1
        insort(firsts, (number, number))
        del firsts[PLACES + 1 :]
    reused.take(firsts, contents)
    return twice.found, reused.found


def late_of(rows: Iterable[list[int]], allowed_lateness_ms: int) -> tuple[Found, int]:
    """Find events that come too late after a newer one of their user.

    Args:
        rows: [user, number, time in ms], in order.
        allowed_lateness_ms: This late is not too late.

    Returns:
        How many, and the first of them: (number, how late in ms); how late the latest one is, in ms.
    """
    late, worst_ms = _Fewest(), 0
    user, newest_ms = -1, 0
    for whose, number, time_ms in rows:
        if whose != user:
            user, newest_ms = whose, time_ms
        elif time_ms < newest_ms - allowed_lateness_ms:
            late.add(number, newest_ms - time_ms)
            worst_ms = max(worst_ms, newest_ms - time_ms)
        else:
            newest_ms = max(newest_ms, time_ms)
    return late.found, worst_ms


class _Fewest:
    """Counts, and keeps those of the lowest numbers."""

    def __init__(self) -> None:
        self._count = 0
        self._lowest: list[tuple[int, int]] = []

    @property
    def found(self) -> Found:
        return self._count, self._lowest

    def add(self, number: int, beside: int) -> None:
        self._count += 1
        if len(self._lowest) < PLACES or number < self._lowest[-1][0]:
            insort(self._lowest, (number, beside))
            del self._lowest[PLACES:]

    def take(self, firsts: list[tuple[int, int]], contents: int) -> None:
        """Take all contents of one name, but for the very first."""
        if contents < 2:
            return
        for number, _ in firsts[1:]:
            self.add(number, firsts[0][0])
        self._count += contents - len(firsts)
