"""What a validation tells: findings, and the counts with first places that most of them are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = ["PLACES", "Check", "Finding", "Level", "Tally", "lasting"]

Check = Literal["schema", "order", "duplicates", "gaps", "clock", "leakage", "cardinality"]
Level = Literal["info", "warning", "error"]

PLACES: Final = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know. count: events (or rows) that it is about; places: the first ones, in the words of a person."""

    check: Check
    level: Level
    message: str
    action: str
    count: int = 0
    places: tuple[str, ...] = ()


@dataclass(slots=True)
class Tally:
    """How often something was found, where first, and how far it went."""

    count: int = 0
    places: list[str] = field(default_factory=list)
    worst: int = 0

    def add(self, place: str, size: int = 0) -> None:
        """Count one more; places come in order."""
        self.count += 1
        self.worst = max(self.worst, size)
        if len(self.places) < PLACES:
            self.places.append(place)

    def finding(self, check: Check, level: Level, message: str, action: str) -> list[Finding]:
        """Tell of it, if there was any; `{count}` and `{worst}`, which is a time, in the message are filled in."""
        if not self.count:
            return []
        told = message.format(count=f"{self.count:,}", worst=lasting(self.worst))
        return [Finding(check, level, told, action, self.count, tuple(self.places))]


def lasting(time_ms: float) -> str:
    """Say how long a time is, in the unit that a person would take."""
    for unit, length_ms in (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000)):
        if time_ms >= 2 * length_ms:
            return f"{time_ms / length_ms:,.4g} {unit}"
    return f"{time_ms / 1_000:,.4g} s"
