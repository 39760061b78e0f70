"""Issues of a log, counted by file and reason, with their first places; no record is dropped without an issue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from stream_app.errors import InputFileError

_FIRST_PLACES: Final = 5
_JUMP_DAYS: Final = 180  # no log of one shop pauses for so long; a wrong unit or a wrong clock jumps further
_DAY_MS: Final = 86_400_000
MOST_APART_MS: Final = _JUMP_DAYS * _DAY_MS
_MOST_REASONS: Final = 200  # bounds memory for a log with thousands of kinds of issues
_OTHER: Final = "other reasons"
_MOST_REPORTED: Final = 20  # places; the others are in the summary


def time_jump(before_ms: int, time_ms: int) -> tuple[str, str] | None:
    """Return the distance and the reason of a jump in time between two consecutive records; None if there is no jump."""
    apart_ms = time_ms - before_ms
    if abs(apart_ms) <= MOST_APART_MS:
        return None
    reason = f"the time jumps by more than {_JUMP_DAYS} days; it is replayed all the same"
    return f"by {apart_ms / _DAY_MS:+,.0f} days", reason


@dataclass(slots=True)
class LogIssue:
    """One reason in one file: its count, and its first lines (or rows)."""

    count: int = 0
    first: list[str] = field(default_factory=list)


class LogIssues:
    """Collects the issues of a log.

    Args:
        strict: Whether the first issue ends the run.
        whole: Whether a file that cannot be read to its end ends the run; issues of single rows are only counted.
        report: Receives the first issues as lines of text.
    """

    def __init__(self, *, strict: bool = False, whole: bool = False, report: Callable[[str], None] = lambda _line: None) -> None:
        self._strict = strict
        self._whole = whole
        self._report = report
        self._reported = 0
        self.by_reason: dict[tuple[str, str], LogIssue] = {}  # (file, reason)
        self._of_records: dict[tuple[str, str], LogIssue] = {}

    @property
    def count(self) -> int:
        """Number of issues."""
        return sum(issue.count for issue in self.by_reason.values())

    def add(self, file: str, place: str, reason: str, *, of_record: bool = False, lost: bool = False) -> None:
        """Add one issue.

        Args:
            file: File or topic.
            place: Line, row or offset in it.
            reason: What is wrong.
            of_record: Whether the issue belongs to a replayed record; a resumed replay does not meet it again.
            lost: Whether the rest of the file after this place is not read.

        Raises:
            InputFileError: `strict` is set, or `lost` and `whole` are.
        """
        if self._whole and lost:
            raise InputFileError(reason if file in reason else f"{file}, {place}: {reason}")
        if self._strict:
            raise InputFileError(f"{file}, {place}: {reason}. Without --strict it is counted, and the log is read on")
        if (file, reason) not in self.by_reason and len(self.by_reason) >= _MOST_REASONS:
            reason = _OTHER
        if of_record:
            _count(self._of_records, file, place, reason)
        if _count(self.by_reason, file, place, reason):
            self._reported += 1
            if self._reported <= _MOST_REPORTED:
                self._report(f"{file}, {place}: {reason}")
            elif self._reported == _MOST_REPORTED + 1:
                self._report("more is wrong; the summary has all of it")

    def merge(self, issues: Mapping[tuple[str, str], LogIssue]) -> None:
        """Add the issues of another process.

        Raises:
            InputFileError: `strict` is set, and there is an issue.
        """
        for (file, reason), issue in issues.items():
            for place in issue.first:
                self.add(file, place, reason)
            known = self.by_reason.get((file, reason)) or self.by_reason[file, _OTHER]
            known.count += issue.count - len(issue.first)

    def checkpoint(self) -> list[tuple[str, str, int, list[str]]]:
        """Return the issues of replayed records for a checkpoint: file, reason, count and first places."""
        return [(file, reason, issue.count, issue.first) for (file, reason), issue in self._of_records.items()]

    def restore(self, checkpoint: Sequence[tuple[str, str, int, list[str]]]) -> None:
        """Restore the issues of a checkpoint.

        Raises:
            InputFileError: `strict` is set, and there is an issue.
        """
        issues = {(file, reason): LogIssue(count, first) for file, reason, count, first in checkpoint}
        self.merge(issues)
        self._of_records = issues

    def summary(self) -> list[dict[str, Any]]:
        """Return the issues for a report, most frequent first."""
        ranked = sorted(self.by_reason.items(), key=lambda entry: (-entry[1].count, entry[0]))
        return [{"file": file, "reason": reason, "count": issue.count, "first": issue.first} for (file, reason), issue in ranked]


def _count(issues: dict[tuple[str, str], LogIssue], file: str, place: str, reason: str) -> bool:
    """Count an issue; return whether its place is among the first."""
    issue = issues.setdefault((file, reason), LogIssue())
    issue.count += 1
    if len(issue.first) >= _FIRST_PLACES:
        return False
    issue.first.append(place)
    return True
