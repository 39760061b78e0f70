"""What was wrong with a log: counted by file and reason, with the first places; nothing is dropped without a trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from stream_app.errors import InputFileError

__all__ = ["MOST_APART_MS", "LogIssue", "LogIssues", "time_jump"]

_FIRST_PLACES: Final = 5
_JUMP_DAYS: Final = 180  # no log of one shop pauses for so long; a wrong unit or a wrong clock jumps further
_DAY_MS: Final = 86_400_000
MOST_APART_MS: Final = _JUMP_DAYS * _DAY_MS
_MOST_REASONS: Final = 200  # a log that is wrong in a thousand ways must not fill the memory
_OTHER: Final = "other reasons"
_MOST_TOLD: Final = 20  # places; the others are in the summary


def time_jump(before_ms: int, time_ms: int) -> tuple[str, str] | None:
    """Return what is wrong with two records in a row whose times are far apart: how far, and the reason; None if they are not."""
    apart_ms = time_ms - before_ms
    if abs(apart_ms) <= MOST_APART_MS:
        return None
    reason = f"the time jumps by more than {_JUMP_DAYS} days; it is replayed all the same"
    return f"by {apart_ms / _DAY_MS:+,.0f} days", reason


@dataclass(slots=True)
class LogIssue:
    """One reason in one file: how often, and the first lines (or rows) where."""

    count: int = 0
    first: list[str] = field(default_factory=list)


class LogIssues:
    """Takes note of what is wrong.

    Args:
        strict: Whether the first one ends the run.
        whole: Whether a file that cannot be read to its end ends the run; what is wrong with single rows is counted all the same.
        tell: Is told each of the first places.
    """

    def __init__(self, *, strict: bool = False, whole: bool = False, tell: Callable[[str], None] = lambda _line: None) -> None:
        self._strict = strict
        self._whole = whole
        self._tell = tell
        self._told = 0
        self.found: dict[tuple[str, str], LogIssue] = {}  # (file, reason)
        self._of_records: dict[tuple[str, str], LogIssue] = {}

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(problem.count for problem in self.found.values())

    def add(self, file: str, place: str, reason: str, *, of_record: bool = False, lost: bool = False) -> None:
        """Take note of one.

        Args:
            file: Or topic.
            place: In it.
            reason: What is wrong.
            of_record: Whether it is one of a replayed record: a replay that goes on behind it does not meet it again.
            lost: Whether the file is not read behind this place.

        Raises:
            InputFileError: It is strict, or the file is lost and files are to be whole.
        """
        if self._whole and lost:
            raise InputFileError(reason if file in reason else f"{file}, {place}: {reason}")
        if self._strict:
            raise InputFileError(f"{file}, {place}: {reason}. Without --strict it is counted, and the log is read on")
        if (file, reason) not in self.found and len(self.found) >= _MOST_REASONS:
            reason = _OTHER
        if of_record:
            _noted(self._of_records, file, place, reason)
        if _noted(self.found, file, place, reason):
            self._told += 1
            if self._told <= _MOST_TOLD:
                self._tell(f"{file}, {place}: {reason}")
            elif self._told == _MOST_TOLD + 1:
                self._tell("more is wrong; the summary has all of it")

    def take(self, found: Mapping[tuple[str, str], LogIssue]) -> None:
        """Take note of what another process has found.

        Raises:
            InputFileError: It is strict.
        """
        for (file, reason), problem in found.items():
            for place in problem.first:
                self.add(file, place, reason)
            known = self.found.get((file, reason)) or self.found[file, _OTHER]
            known.count += problem.count - len(problem.first)

    def kept(self) -> list[tuple[str, str, int, list[str]]]:
        """Return what a checkpoint keeps: file, reason, count and first places of those of replayed records."""
        return [(file, reason, problem.count, problem.first) for (file, reason), problem in self._of_records.items()]

    def restore(self, kept: Sequence[tuple[str, str, int, list[str]]]) -> None:
        """Go on from what a checkpoint kept.

        Raises:
            InputFileError: There was something, and it is strict.
        """
        found = {(file, reason): LogIssue(count, first) for file, reason, count, first in kept}
        self.take(found)
        self._of_records = found

    def summary(self) -> list[dict[str, Any]]:
        """List them for a report, most frequent first."""
        ranked = sorted(self.found.items(), key=lambda entry: (-entry[1].count, entry[0]))
        return [
            {"file": file, "reason": reason, "count": problem.count, "first": problem.first} for (file, reason), problem in ranked
        ]


def _noted(found: dict[tuple[str, str], LogIssue], file: str, place: str, reason: str) -> bool:
    """Count one; tell whether its place is among the first."""
    problem = found.setdefault((file, reason), LogIssue())
    problem.count += 1
    if len(problem.first) >= _FIRST_PLACES:
        return False
    problem.first.append(place)
    return True
