"""Findings of a validation, and the counts with first places that most of them are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

Check = Literal["schema", "order", "duplicates", "gaps", "clock", "leakage", "cardinality"]
Level = Literal["info", "warning", "error"]

PLACES: Final = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check. count: affected events (or rows); places: the first of them, as `line 702`."""

    check: Check
    level: Level
    message: str
    action: str
    count: int = 0
    places: tuple[str, ...] = ()


@dataclass(slots=True)
class Occurrences:
    """How often a defect occurs, its first places, and its greatest size in ms."""

    count: int = 0
    places: list[str] = field(default_factory=list)
    worst_ms: int = 0

    def add(self, place: str, size_ms: int = 0) -> None:
        """Count one more; places come in order."""
        self.count += 1
        self.worst_ms = max(self.worst_ms, size_ms)
        if len(self.places) < PLACES:
            self.places.append(place)

    def findings(self, check: Check, level: Level, message: str, action: str) -> list[Finding]:
        """Return one finding if the defect occurs at all; `{count}` and `{worst}` in the message are filled in."""
        if not self.count:
            return []
        text = message.format(count=f"{self.count:,}", worst=duration_text(self.worst_ms))
        return [Finding(check, level, text, action, self.count, tuple(self.places))]


def duration_text(time_ms: float) -> str:
    """Write a duration in the largest unit of which it has at least two."""
    for unit, length_ms in (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000)):
        if time_ms >= 2 * length_ms:
            return f"{time_ms / length_ms:,.4g} {unit}"
    return f"{time_ms / 1_000:,.4g} s"
